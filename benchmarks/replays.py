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
from model.pool_prior import PoolPrior
from model.queries import Answers, Pool, pick
from model.simulate import draw_prior

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
    """The images of a replay: a pool to label, images to audit, and images to judge by; ``prior``
    is what the pool says while it is unlabelled."""

    prior: PoolPrior | None
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
        draw_prior(data.train[pool], seed),
        data.train[pool],
        data.y_train[pool],
        data.train[held],
        data.y_train[held],
        data.test[:JUDGED] if len(data.y_test) > JUDGED else data.test,
        data.y_test[:JUDGED],
    )


def replay(data: LabelledEmbeddings, strategy: str, seed: int, most: int, cache: Path) -> Replay:
    """Label the pool from zero up to ``most`` labels by the strategy; kept in ``cache``."""
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
    done, head = np.zeros(0, dtype=np.int64), None
    found: dict[str, list[Any]] = {"labels": [], "said": [], "audited": []}
    while len(done) < most:
        batch = next_batch(len(done), classes)
        done = np.append(done, picks(head, images, done, strategy, batch, generator))
        head = fitted(images, done, classes, seed)
        found["labels"].append(len(done))
        found["said"].append(said(head, images.test))
        found["audited"].append(said(head, images.audit))
    arrays = {key: np.array(value) for key, value in found.items()}
    small = np.uint8 if len(classes) < 256 else np.int64
    return {
        "labels": arrays["labels"],
        "said": arrays["said"].astype(small),
        "audited": arrays["audited"].astype(small),
        "truth": images.y_test.astype(small),
        "audit_truth": images.y_audit.astype(small),
    }


def next_batch(labels: int, classes: Sequence[str]) -> int:
    """Labels between two versions: two for each class at first, then 10 or 8% of the labels."""
    if not labels:
        return FIRST_PER_CLASS * len(classes)
    return max(LEAST_BATCH, int(GROWTH * labels))


def fitted(images: Parts, rows: NDArray[np.int64], classes: Sequence[str], seed: int) -> Head:
    """The product's head on these images of the pool."""
    x, y = images.pool[rows], images.y_pool[rows]
    return fit_head(x, y, classes=classes, multiple=False, seed=seed, pool=images.prior).head


def said(head: Head, embeddings: Array) -> NDArray[np.int64]:
    """(n,) the likeliest class of each image."""
    return head.probabilities(embeddings).argmax(axis=1)


def picks(
    head: Head | None,
    images: Parts,
    done: NDArray[np.int64],
    strategy: str,
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """The next images by a strategy of the product."""
    answers: tuple[Answers, ...] = ()
    if head is not None:
        counts = np.bincount(images.y_pool[done], minlength=len(head.classes))
        answers = (Answers(head.probabilities(images.pool), head=head, label_counts=counts),)
    return pick(strategy, Pool(images.pool, answers, done), count, generator)
