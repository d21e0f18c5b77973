"""``GET /metrics``: every figure in Prometheus' text format."""

from __future__ import annotations

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from backend.described import Description, described
from backend.metrics import REGISTRY
from backend.metrics_database import DatabaseFigures
from backend.metrics_files import counts_of
from backend.services import services

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
@described(Description(media="text/plain"))
def metrics() -> Response:
    """What Prometheus reads: counts and times of all processes, and the figures of the database."""
    settings = services().settings
    registry = CollectorRegistry()
    registry.register(counts_of(REGISTRY, settings.data_dir))
    registry.register(DatabaseFigures(services().store, settings.lease_seconds))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
