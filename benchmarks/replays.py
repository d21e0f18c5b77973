"""A labelled data set, labelled once more: what every version says of images it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from benchmarks.labelled_embeddings import LabelledEmbeddings
from benchmarks.report import say
from model.head import Head, fit_head
from model.uncertainty import uncertainty

Array = NDArray[Any]
POOL, AUDITABLE, JUDGED = 10_000, 2_000, 6_000
FIRST_PER_CLASS, LEAST_BATCH, GROWTH = 2, 10, 0.08


@dataclass(frozen=True, eq=False)
class Replay:
    """v versions of one labelling, each learned from more labels of the pool.

    ``labels``          (v,) labels learned from
    ``said``            (v, t) classes that each version says of the test images
    ``audited``         (v, c) of the images that audit sets are drawn from, none in the pool
    ``truth``, ``audit_truth``  (t,) and (c,)
    """

    name: str
    labels: Array
    said: Array
    audited: Array
    truth: Array
    audit_truth: Array

    def accuracy(self) -> NDArray[np.float64]:
        """(v,) share of the test images that is right, made never to fall (isotonic)."""
        right = (self.said == self.truth).mean(axis=1)
        risen = IsotonicRegression().fit_transform(np.arange(len(right)), right)
        return np.asarray(risen, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Parts:
    """The images of a replay: a pool to label, images to audit, and images to judge by."""

    pool: Array
    y_pool: NDArray[np.int64]
    audit: Array
    y_audit: NDArray[np.int64]
    test: Array
    y_test: NDArray[np.int64]


def parts(data: LabelledEmbeddings, seed: int) -> Parts:
    """Drawn anew for each seed; a sixth at most of the training images can be audited."""
    order = np.random.default_rng([seed, 0]).permutation(len(data.y_train))
    audit = min(AUDITABLE, len(order) // 6)
    held, pool = order[:audit], order[audit : audit + POOL]
    return Parts(
        data.train[pool],
        data.y_train[pool],
        data.train[held],
        data.y_train[held],
        data.test[:JUDGED] if len(data.y_test) > JUDGED else data.test,
        data.y_test[:JUDGED],
    )


def replay(data: LabelledEmbeddings, strategy: str, seed: int, most: int, cache: Path) -> Replay:
    """Label the pool up to ``most`` labels, by ``margin`` or at ``random``; kept in ``cache``."""
    name = f"{data.name}-{strategy}-{most}-{seed}"
    kept = cache / f"replay-{name}.npz"
    if not kept.exists():
        found = _label(parts(data, seed), data.classes, strategy, seed, most)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, **found)
        say(f"{name}: {len(found['labels'])} versions")
    with np.load(kept) as found:
        return Replay(name, **{key: found[key] for key in found.files})


def _label(
    images: Parts, classes: Sequence[str], strategy: str, seed: int, most: int
) -> dict[str, Array]:
    generator = np.random.default_rng([seed, 1])
    free = np.ones(len(images.pool), dtype=np.bool_)
    chosen = generator.permutation(len(free))[: FIRST_PER_CLASS * len(classes)]
    found: dict[str, list[Any]] = {"labels": [], "said": [], "audited": []}
    while True:
        free[chosen] = False
        head = fit_head(
            images.pool[chosen], images.y_pool[chosen], classes=classes, multiple=False, seed=seed
        ).head
        found["labels"].append(len(chosen))
        found["said"].append(said(head, images.test))
        found["audited"].append(said(head, images.audit))
        if len(chosen) >= most:
            break
        batch = max(LEAST_BATCH, int(GROWTH * len(chosen)))
        chosen = np.append(chosen, picks(head, images.pool, free, strategy, generator)[:batch])
    arrays = {key: np.array(value) for key, value in found.items()}
    small = np.uint8 if len(classes) < 256 else np.int64
    return {
        "labels": arrays["labels"],
        "said": arrays["said"].astype(small),
        "audited": arrays["audited"].astype(small),
        "truth": images.y_test.astype(small),
        "audit_truth": images.y_audit.astype(small),
    }


def said(head: Head, embeddings: Array) -> NDArray[np.int64]:
    """(n,) the likeliest class of each image."""
    return head.probabilities(embeddings).argmax(axis=1)


def picks(
    head: Head, pool: Array, free: NDArray[np.bool_], strategy: str, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Every free image, the one to label first in front."""
    rows = np.flatnonzero(free)
    if strategy == "random":
        return generator.permutation(rows)
    unsure = uncertainty(strategy, head.probabilities(pool[rows]), False)
    return rows[np.argsort(-unsure, kind="stable")]
