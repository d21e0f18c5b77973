"""What is counted and timed for Prometheus; ``docs/metrics.md`` has each one's meaning.

Every one has a label, and every label has few values: a route's template, a cause or an action out
of a fixed set. What the database knows is not counted here but read from it, by
:mod:`backend.metrics_database`; :mod:`backend.metrics_files` is where the counts of several
processes meet.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from backend.metrics_files import process_name

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

OTHER = "other"
NO_HTTP = "(not HTTP)"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ACTIONS = frozenset(
    f"{what}_{done}"
    for what in ("ANNOTATION", "ANNOTATIONS", "TASK", "TASKS", "PROJECT")
    for done in ("CREATED", "UPDATED", "DELETED")
) | {"START_TRAINING"}

REQUESTS = Counter(
    "tiebreak_http_requests",
    "Requests answered, by method, route and status",
    ("method", "route", "status"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "tiebreak_http_request_seconds",
    "Seconds from a request to its answer, by route",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
    registry=REGISTRY,
)
PREDICTIONS = Counter(
    "tiebreak_predictions",
    "Tasks predicted, by where the embedding of their image came from",
    ("source",),
    registry=REGISTRY,
)
EMBEDDING_LOOKUPS = Counter(
    "tiebreak_embedding_lookups",
    "Embeddings looked up for predictions, by whether they were kept already",
    ("result",),
    registry=REGISTRY,
)
WEBHOOKS = Counter(
    "tiebreak_webhooks",
    "Webhooks taken, by action",
    ("action",),
    registry=REGISTRY,
)
IMAGES_FETCHED = Counter(
    "tiebreak_images_fetched",
    "Images fetched and kept as working copies",
    ("process",),
    registry=REGISTRY,
)
FETCH_FAILURES = Counter(
    "tiebreak_fetch_failures",
    "Images that could not be had, by cause",
    ("process", "cause"),
    registry=REGISTRY,
)
IMAGES_EMBEDDED = Counter(
    "tiebreak_images_embedded",
    "Images embedded",
    ("process",),
    registry=REGISTRY,
)
EMBEDDING_SECONDS = Histogram(
    "tiebreak_embedding_seconds",
    "Seconds to embed a chunk of images",
    ("process",),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
STEPS = Counter(
    "tiebreak_trainer_steps",
    "Steps of the trainer that did something (`done`) or raised an error (`failed`), by name",
    ("step", "outcome"),
    registry=REGISTRY,
)
TRAINING_SECONDS = Histogram(
    "tiebreak_training_seconds",
    "Seconds to train heads and judge them, by outcome",
    ("outcome",),
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900),
    registry=REGISTRY,
)
FINETUNE_SECONDS = Histogram(
    "tiebreak_finetune_seconds",
    "Seconds from a fine-tune's start to its end, by outcome",
    ("outcome",),
    buckets=(60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400),
    registry=REGISTRY,
)


def count_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request and its time. ``route`` is a template, never a path."""
    REQUESTS.labels(method if method in METHODS else OTHER, route, str(status)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)


def count_webhook(action: str) -> None:
    """Count a webhook that was taken."""
    WEBHOOKS.labels(action if action in ACTIONS else OTHER).inc()


def count_embedded(images: int, seconds: float) -> None:
    """Count images that were embedded together."""
    IMAGES_EMBEDDED.labels(process_name()).inc(images)
    EMBEDDING_SECONDS.labels(process_name()).observe(seconds)


def count_fetched() -> None:
    """Count an image that was fetched."""
    IMAGES_FETCHED.labels(process_name()).inc()


def count_fetch_failure(cause: str) -> None:
    """Count an image that could not be had."""
    FETCH_FAILURES.labels(process_name(), cause).inc()
