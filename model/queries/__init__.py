"""Which images to label next: one file for each query strategy, all of the same form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from model.errors import ArgumentError
from model.queries.auto import auto, auto_batches
from model.queries.badge import badge
from model.queries.bald import bald
from model.queries.coreset import coreset
from model.queries.entropy import entropy
from model.queries.least_confidence import least_confidence
from model.queries.margin import margin
from model.queries.pool import Answers, Pool, Strategy
from model.queries.random import random
from model.queries.typiclust import typiclust
from model.queries.uherding import uherding

__all__ = ["STRATEGIES", "Answers", "Pool", "Strategy", "pick", "pick_batches"]

STRATEGIES: Mapping[str, Strategy] = {
    "auto": auto,
    "random": random,
    "least-confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
    "coreset": coreset,
    "badge": badge,
    "typiclust": typiclust,
    "uherding": uherding,
    "bald": bald,
}


def pick(
    strategy: str, pool: Pool, count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The next ``count`` images by the strategy of that name: :data:`model.queries.pool.Strategy`.

    ArgumentError for a strategy that is not in :data:`STRATEGIES`, or a negative ``count``.

    Linear algebra runs on one core for each of our own threads (:mod:`model.parallel`), and the
    picks are the same on machines with more or fewer cores.
    """
    return pick_batches(strategy, pool, (count,), generator)


def pick_batches(
    strategy: str, pool: Pool, counts: Sequence[int], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Batches of so many images, in order, each picked as if those before it were labelled, with
    the heads as they are. Arguments, errors and cores as in :func:`pick`.
    """
    chosen = STRATEGIES.get(strategy)
    if chosen is None:
        raise ArgumentError(f"strategy={strategy!r}; one of {', '.join(STRATEGIES)} is allowed.")
    with threadpool_limits(limits=1, user_api="blas"):
        if strategy == "auto":
            return auto_batches(pool, counts, generator)
        if strategy == "uherding":
            # Greedy: what is picked counts as labelled from pick to pick.
            return uherding(pool, sum(counts), generator)
        return _one_after_the_other(chosen, pool, counts, generator)


def _one_after_the_other(
    strategy: Strategy, pool: Pool, counts: Sequence[int], generator: np.random.Generator
) -> NDArray[np.int64]:
    picked = np.zeros(0, dtype=np.int64)
    for count in counts:
        asked = pool
        if len(picked):
            asked = replace(pool, labelled=np.union1d(pool.labelled, picked))
        picked = np.concatenate([picked, strategy(asked, count, generator)])
    return picked
