"""Does choosing pay? The queue's picks against random ones, on this very project.

The audit images are a random sample that people labelled in the same time, so they show what as
many random labels would have taught. In folds: train on the audit labels of all folds but one, test
on that one; and compare, on the same images, with a model that learned as many labels which the
queue picked. Everything else that the two learned is the same.

Two questions, one comparison:

* ``Stage.FIRST``: nothing else is learned. Were the queue's first picks better than chance? It says
  nothing of the picks that came later.
* ``Stage.LAST``: all labels before are learned by both. Would random labels in place of the last
  picks have taught more? This is what stopping or going on with the queue turns on. It says nothing
  of the picks before, and as these teach most of what there is to know, it sees only great
  differences.

*The interval.* A mean over images, or a bootstrap of them, leaves out that another draw of labels
would have made another model, and is too narrow (docs/forecast.md). Here the spread is that of the
differences over the test folds, and is corrected for their sharing training labels: Nadeau and
Bengio, *Inference for the Generalization Error* (2003), section 3, (1 / J + tested / trained) s^2
for J folds in all, with Student's t. Folds are drawn without regard to class: with classes dealt
evenly, the random side would train on the very mix of classes that it is tested on, and seem better
than it is (measured: by 7 points at 48 labels of 10 classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from model.errors import ArgumentError
from model.head import fit_head
from model.plurals import counted
from model.pool_prior import PoolPrior

Array = NDArray[np.float64]

FOLDS, REPEATS = 5, 3
MINIMUM_AUDITED = 50
"""Audit labels below which nothing is compared."""
CONFIDENCE = 0.95


class Stage(StrEnum):
    """Which picks are compared."""

    FIRST = "first"
    LAST = "last"


class Verdict(StrEnum):
    """What a comparison shows, by its 95% interval."""

    HELPS = "helps"
    NO_DIFFERENCE = "no difference seen"
    HURTS = "hurts"
    CANNOT_TELL = "cannot tell yet"


@dataclass(frozen=True, eq=False)
class Labelled:
    """(n, d) ``embeddings`` and their ``targets``, as :func:`model.head.fit_head` takes them."""

    embeddings: NDArray[np.floating]
    targets: NDArray[np.int64] | NDArray[np.bool_]

    def __post_init__(self) -> None:
        if len(self.embeddings) != len(self.targets):
            raise ArgumentError(
                f"embeddings has {len(self.embeddings)} rows and targets {len(self.targets)}; "
                "each row needs its target."
            )

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, rows: slice | NDArray[np.int64]) -> Labelled:
        """These rows."""
        return Labelled(self.embeddings[rows], self.targets[rows])

    def with_rows(self, other: Labelled) -> Labelled:
        """These rows, and then those of ``other``."""
        return Labelled(
            np.concatenate([self.embeddings, other.embeddings]),
            np.concatenate([self.targets, other.targets]),
        )


@dataclass(frozen=True)
class Comparison:
    """The queue's picks against as many random ones.

    ``compared``    labels that differ between the two sides
    ``learned``     labels that both learned besides
    ``audited``     audit labels, which gave the random ones and on which both were judged
    ``queue``, ``random``  accuracy with either; for several choices, every class right
    ``difference``  queue minus random, with its 95% interval from ``low`` to ``high``
    ``error``       the standard error behind it
    ``image_error`` what the spread over images alone would give: too small, for comparison. None
                    like the six before it while nothing can be compared
    ``missing``     more audit labels, or picks, that a first comparison needs
    """

    stage: Stage
    verdict: Verdict
    compared: int
    learned: int
    audited: int
    queue: float | None = None
    random: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    image_error: float | None = None
    missing: int = 0

    @property
    def sentence(self) -> str:
        """The comparison in one sentence."""
        return _sentence(self)

    @property
    def hurt_probability(self) -> float:
        """One-sided p-value of a difference this low where choosing truly does not hurt."""
        if self.difference is None or self.error is None:
            return 1.0
        return float(stdtr(_FREEDOM, self.difference / self.error))


_FREEDOM = FOLDS * REPEATS - 1


def comparable(audited: int) -> int:
    """Labels that can be compared with this many audit labels: those of all folds but one."""
    return audited - -(-audited // FOLDS)


def compare_picks(
    picked: Labelled,
    audit: Labelled,
    *,
    stage: Stage,
    classes: Sequence[str],
    multiple: bool,
    seed: int = 0,
    pool: PoolPrior | None = None,
) -> Comparison:
    """Compare the queue's ``picked`` labels, in the order of labelling, with the ``audit`` labels.

    No two audit images may be near-duplicates, or the random side would be tested on what it has
    seen. ``pool`` is what the project's own heads learn from besides. :data:`Verdict.CANNOT_TELL`
    below 50 audit labels, or where there are fewer picks than :func:`comparable`. Fits 16 heads on
    up to ``len(picked)`` labels each: seconds for hundreds. The same arguments give the same
    numbers.
    """
    audited, m = len(audit), comparable(len(audit))
    missing = max(MINIMUM_AUDITED - audited, 0) or max(m - len(picked), 0)
    if missing:
        compared = min(m, len(picked))
        return Comparison(stage, Verdict.CANNOT_TELL, compared, 0, audited, missing=missing)
    generator = np.random.default_rng(seed)
    folds = np.array([generator.permutation(audited) % FOLDS for _ in range(REPEATS)])
    if stage is Stage.FIRST:
        learned, ours = picked.at(slice(0, 0)), picked.at(slice(0, m))
    else:
        learned, ours = picked.at(slice(0, -m)), picked.at(slice(-m, None))
    arena = _Arena(tuple(classes), multiple, seed, pool)
    right = arena.right(learned.with_rows(ours), audit)
    by_chance = np.zeros(folds.shape)
    for repeat, fold in product(range(REPEATS), range(FOLDS)):
        tested = folds[repeat] == fold
        drawn = generator.permutation(np.flatnonzero(~tested))[:m]
        by_chance[repeat, tested] = arena.right(
            learned.with_rows(audit.at(drawn)), audit.at(np.flatnonzero(tested))
        )
    return _compared(stage, right, by_chance, folds, m, len(learned))


@dataclass(frozen=True)
class _Arena:
    """How both sides learn and are judged."""

    classes: tuple[str, ...]
    multiple: bool
    seed: int
    pool: PoolPrior | None

    def right(self, learned: Labelled, tested: Labelled) -> Array:
        """(t,) 1 for each tested row that a head from the learned rows gets right, else 0."""
        if not self.multiple and np.unique(learned.targets).size == 1:
            # A head needs two classes; who knows one says that one.
            return np.asarray(tested.targets == learned.targets[0], dtype=np.float64)
        head = fit_head(
            learned.embeddings,
            learned.targets,
            classes=self.classes,
            multiple=self.multiple,
            seed=self.seed,
            pool=self.pool,
        ).head
        p = head.probabilities(tested.embeddings)
        if head.thresholds is not None:
            found = ((p >= head.thresholds) == tested.targets).all(axis=1)
        else:
            found = p.argmax(axis=1) == tested.targets
        return np.asarray(found, dtype=np.float64)


def _compared(
    stage: Stage, right: Array, by_chance: Array, folds: NDArray[np.int64], m: int, learned: int
) -> Comparison:
    """The figures of (a,) right answers of the queue's side and (repeats, a) of the random side."""
    audited = len(right)
    each = np.array(
        [
            (right[row == fold] - chance[row == fold]).mean()
            for row, chance in zip(folds, by_chance, strict=True)
            for fold in range(FOLDS)
        ]
    )
    difference = float(right.mean() - by_chance.mean())
    error = corrected_error(each, tested=audited - m, trained=m)
    # Where the two never differ the spread is 0, and still one image more could tell.
    error = max(error, 1 / audited)
    half = float(stdtrit(_FREEDOM, 0.5 + CONFIDENCE / 2)) * error
    low, high = max(difference - half, -1.0), min(difference + half, 1.0)
    verdict = Verdict.NO_DIFFERENCE
    if low > 0 or high < 0:
        verdict = Verdict.HELPS if low > 0 else Verdict.HURTS
    return Comparison(
        stage=stage,
        verdict=verdict,
        compared=m,
        learned=learned,
        audited=audited,
        queue=float(right.mean()),
        random=float(by_chance.mean()),
        difference=difference,
        low=low,
        high=high,
        error=error,
        image_error=float((right - by_chance.mean(axis=0)).std(ddof=1)) / sqrt(audited),
    )


def corrected_error(differences: Array, *, tested: int, trained: int) -> float:
    """Standard error of the mean of (J,) differences over folds that share training labels.

    Nadeau and Bengio (2003): sqrt((1 / J + tested / trained) s^2). ArgumentError below two.
    """
    if len(differences) < 2 or trained < 1:
        raise ArgumentError(
            f"differences has {len(differences)} folds and trained is {trained}; at least 2 and 1 "
            "are needed."
        )
    spread = float(np.var(differences, ddof=1))
    return float(np.sqrt((1 / len(differences) + tested / trained) * spread))


def _sentence(c: Comparison) -> str:
    if c.difference is None or c.low is None or c.high is None:
        missing = counted(
            c.missing, "more audit label" if c.audited < MINIMUM_AUDITED else "more label"
        )
        source = "" if c.audited < MINIMUM_AUDITED else " from the queue"
        are = "is" if c.missing == 1 else "are"
        return f"Cannot tell yet whether choosing pays: {missing}{source} {are} needed."
    what = {
        Verdict.HELPS: "Choosing pays",
        Verdict.HURTS: "Choosing does harm",
    }.get(c.verdict, "No difference seen between choosing and chance")
    return (
        f"{what}: with the {c.stage} {c.compared} labels that the queue picked, the model gets "
        f"{abs(100 * c.difference):.1f} points {'more' if c.difference >= 0 else 'fewer'} right "
        f"than with as many random ones ({100 * c.low:+.1f} to {100 * c.high:+.1f}, "
        f"{c.audited} audit labels)."
    )
