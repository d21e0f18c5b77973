"""A labelled data set replayed as if it were being labelled: arrays in, a learning curve out.

Every step is the product's own: the head is fitted from scratch on the labels so far
(:func:`model.head.fit_head`), where it is asked for with what the unlabelled images say
(:mod:`model.pool_prior`), its calibrated probabilities go to the strategy, and the images that the
strategy picks get their labels (:func:`model.queries.pick`). A strategy is never shown a label of
an image that it has not picked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import class_positions
from model.errors import ArgumentError
from model.head import Head, fit_head, power_normalise
from model.metrics import accuracy
from model.pool_prior import PoolPrior, sample_pool
from model.queries import Answers, Pool, pick

LEAST_BATCH = 10
GROWTH = 0.1
# Chance looks at nothing, so that nothing needs to be learned between two budgets.
LOOKS_AT_NOTHING = frozenset({"random"})
LEAST_OF_PRIOR = 3
_BLOCK = 8192

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """One point of a learning curve: ``accuracy``, in [0, 1], on the test rows."""

    labels: int
    accuracy: float


@dataclass(frozen=True, eq=False)
class Features:
    """The embeddings of all images by one network.

    ``pool``     (n, d) of any float type, and ``test`` (m, d)
    ``prior``    what lets the unlabelled images have a say, made of the pool; None for no say
    ``trained``  (n,) bool, images that shaped the network: a head is not tested on them. None
                 for none
    """

    pool: NDArray[np.floating]
    test: NDArray[np.floating]
    prior: PoolPrior | None = None
    trained: NDArray[np.bool_] | None = None


FineTune = Callable[[Positions, Positions, bool], Features]
"""(positions of the labelled images in the pool, their labels, whether these are the last ones) ->
features by a tuned network. After the last ones only the rows of labelled images are looked at, and
``prior``."""


def replay(
    embeddings: NDArray[np.floating],
    targets: ArrayLike,
    test_embeddings: NDArray[np.floating],
    test_targets: ArrayLike,
    *,
    classes: Sequence[str],
    strategy: str,
    budgets: Sequence[int],
    seed: int,
    batch: int | None = None,
    start: int = 0,
    prior: PoolPrior | None = None,
    finetune: FineTune | None = None,
    finetune_at: Collection[int] = (),
    on_progress: Callable[[int], None] | None = None,
) -> list[Point]:
    """Label a pool by a strategy; how right the head is at each budget.

    ``embeddings``   (n, d) of any float type, finite, as the backbone gives them
    ``targets``      (n,) positions in ``classes``: what people answer, right or not
    ``budgets``      ascending numbers of labels, at most n. The last training of a budget is on
                     exactly as many labels
    ``batch``        labels between two trainings; None: :data:`LEAST_BATCH`, growing with the
                     labels (:func:`next_batch`)
    ``start``        labels of images drawn by chance before the strategy is asked first; all
                     strategies of a seed start with the same ones
    ``prior``        as :func:`draw_prior` makes it of ``embeddings``; None: the unlabelled images
                     have no say
    ``finetune``     gives the features to go on with once there are as many labels as a number in
                     ``finetune_at``, before the head of that training is fitted
    ``on_progress``  gets the number of labels after each training

    While nothing is labelled the pool has no answers. While all labels are of one class there is
    no head either, and every test row is taken for that class.

    The same arguments give the same curve. ArgumentError names what does not fit; what the
    strategy and ``finetune`` raise is passed on.
    """
    n = len(embeddings)
    given = class_positions("targets", targets, length=n, class_count=len(classes))
    length = len(test_embeddings)
    truth = class_positions("test_targets", test_targets, length=length, class_count=len(classes))
    ends = _checked_budgets(budgets, n, start, batch)
    run = _Replay(
        Features(embeddings, test_embeddings, prior), given, tuple(classes), strategy, seed
    )
    tell = on_progress or (lambda labels: None)

    def train() -> None:
        if finetune is not None and run.labels in finetune_at:
            run.use(finetune(run.labelled, given[run.labelled], run.labels == ends[-1]))
        run.train()
        tell(run.labels)

    if start:
        run.label(np.random.default_rng([seed, 0]).permutation(n)[:start])
        train()
    points = []
    for end in ends:
        while run.labels < end:
            wanted = end if strategy in LOOKS_AT_NOTHING else batch or next_batch(run.labels)
            run.label(
                run.picked(min(wanted, _next_stop(run.labels, end, finetune_at) - run.labels))
            )
            train()
        points.append(Point(run.labels, run.accuracy(truth)))
    return points


def next_batch(labels: int) -> int:
    """How many images are labelled before the next training when nobody says: 10, the default of
    the product, until 100 are labelled, then a tenth of the labels."""
    return max(LEAST_BATCH, int(GROWTH * labels))


def prior_rows(count: int, seed: int) -> Positions:
    """Which of ``count`` images have a say of their own, ascending: all of few, some of many."""
    return sample_pool(count, np.random.default_rng([seed, 2]))


def draw_prior(embeddings: NDArray[np.floating], seed: int) -> PoolPrior | None:
    """What lets the unlabelled images of (n, d) ``embeddings`` have a say, made of their
    :func:`prior_rows`; the same for all strategies of a seed. None for too few images."""
    if len(embeddings) < LEAST_OF_PRIOR:
        return None
    return PoolPrior(power_normalise(embeddings[prior_rows(len(embeddings), seed)]))


class _Replay:
    """The state of a replay: what is labelled, and the head that was learned from it."""

    def __init__(
        self,
        features: Features,
        targets: Positions,
        classes: tuple[str, ...],
        strategy: str,
        seed: int,
    ) -> None:
        self._targets = targets
        self._classes = classes
        self._strategy = strategy
        self._seed = seed
        self._generator = np.random.default_rng([seed, 1])
        self._head: Head | None = None
        self.labelled: Positions = np.zeros(0, dtype=np.int64)
        self.use(features)

    @property
    def labels(self) -> int:
        return len(self.labelled)

    def use(self, features: Features) -> None:
        """Go on with the features of another network; what was learned is for the old ones."""
        self._features = features
        self._head = None
        # Once, and not again at every step.
        self._rows = _normalised(features.pool)

    def label(self, positions: Positions) -> None:
        """Add images to those that are labelled."""
        together = np.concatenate([self.labelled, positions])
        if len(np.unique(together)) < len(together) or not len(positions):
            raise ArgumentError(
                f"strategy={self._strategy!r} picked {len(positions)} image(s), and one twice; "
                "unlabelled ones are needed."
            )
        self.labelled = together

    def train(self) -> None:
        """Fit the head from scratch, if there are labels of two classes."""
        labels, trained = self._targets[self.labelled], self._features.trained
        if len(np.unique(labels)) < 2:
            return
        self._head = fit_head(
            self._features.pool[self.labelled],
            labels,
            classes=self._classes,
            multiple=False,
            seed=self._seed,
            honest=None if trained is None else ~trained[self.labelled],
            pool=self._features.prior,
        ).head

    def picked(self, count: int) -> Positions:
        """The next images by the strategy."""
        pool = Pool(self._features.pool, self._answers(), self.labelled)
        return pick(self._strategy, pool, count, self._generator)

    def accuracy(self, truth: Positions) -> float:
        """The share of the test rows that are called right."""
        if self._head is None:
            return float((truth == self._targets[self.labelled[0]]).mean())
        return accuracy(self._head.probabilities(self._features.test), truth)

    def _answers(self) -> tuple[Answers, ...]:
        if self._head is None:
            return ()
        counts = np.bincount(self._targets[self.labelled], minlength=len(self._classes))
        probabilities = self._head.probabilities(self._rows, normalised=True)
        return (Answers(probabilities, False, self._head, counts),)


def _next_stop(labels: int, end: int, finetune_at: Collection[int]) -> int:
    """How many labels there must be exactly, before there are more."""
    return min([end, *(at for at in finetune_at if at > labels)])


def _normalised(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    rows = np.empty(embeddings.shape, dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        rows[start : start + _BLOCK] = power_normalise(embeddings[start : start + _BLOCK])
    return rows


def _checked_budgets(
    budgets: Sequence[int], n: int, start: int, batch: int | None
) -> tuple[int, ...]:
    ends = tuple(int(end) for end in budgets)
    if not ends or ends[0] < 1 or any(b <= a for a, b in pairwise(ends)):
        raise ArgumentError(f"budgets={list(ends)}; ascending numbers from 1 on are needed.")
    if ends[-1] > n:
        raise ArgumentError(f"budgets ends with {ends[-1]}; the pool has {n} images.")
    if not 0 <= start <= ends[0]:
        raise ArgumentError(f"start={start}; 0 to {ends[0]}, the first budget, is allowed.")
    if batch is not None and batch < 1:
        raise ArgumentError(f"batch={batch}; 1 or more is allowed.")
    return ends
