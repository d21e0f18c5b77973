"""Which images to label next: one file for each query strategy, all of the same form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from model.errors import ArgumentError
from model.queries.auto import auto
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

__all__ = ["STRATEGIES", "Answers", "Pool", "Strategy", "pick"]

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

    Runs on one core, as :func:`model.crossfit.cross_fit` does and for the same reason, and so that
    the picks are the same on machines with more or fewer.
    """
    chosen = STRATEGIES.get(strategy)
    if chosen is None:
        raise ArgumentError(f"strategy={strategy!r}; one of {', '.join(STRATEGIES)} is allowed.")
    with threadpool_limits(limits=1, user_api="blas"):
        return chosen(pool, count, generator)
