"""Intervals for measures that have no formula of their own: draw the rows again, many times.

Rows are not copied for a draw: a draw is how often each row was drawn, so that a measure which is
a function of sums over rows is computed for all draws at once, by one product of matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.checks import inner_share
from model.errors import ArgumentError

Array = NDArray[np.float64]

_WORK = 20_000_000


def draw_counts(n: int, draws: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """(draws, n) float32: how often each of ``n`` rows was drawn, n at a time with replacement.

    Efron, *Bootstrap Methods: Another Look at the Jackknife* (1979). Each row of the result sums
    to n. ArgumentError when ``n`` or ``draws`` is below 1.
    """
    if n < 1 or draws < 1:
        raise ArgumentError(f"n is {n!r} and draws is {draws!r}; both must be at least 1.")
    picked = generator.integers(0, n, size=(draws, n))
    picked += np.arange(draws)[:, None] * n
    counts = np.bincount(picked.ravel(), minlength=draws * n)
    return counts.reshape(draws, n).astype(np.float32)


def enough_draws(cells: int, most: int = 1000, least: int = 200) -> int:
    """How many draws of ``cells`` numbers (rows times classes) are worth their time.

    ``most`` up to 20,000 cells, then fewer, down to ``least``: 200 draws place an end of a 95%
    interval to about a third of a standard error, which is enough where n is large.
    """
    return int(np.clip(_WORK // max(cells, 1), least, most))


def percentile_interval(values: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper percentile of a measure over (draws,) ``values``; NaN draws are left out.

    Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), eq. 13.5. ArgumentError when
    no value is left, or ``confidence`` is not in (0, 1).
    """
    inner_share("confidence", confidence)
    kept = values[~np.isnan(values)]
    if kept.size == 0:
        raise ArgumentError(f"values has {values.size} draws, none of which is a number.")
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def weighted_auc(scores: Array, yes: NDArray[np.bool_], counts: NDArray[np.float32]) -> Array:
    """(draws,) area under the ROC curve of (n,) ``scores`` for (n,) ``yes``, one per draw.

    The share of pairs of a yes and a no in which the yes scores higher, equal scores counting half
    (Hanley and McNeil 1982). NaN in draws that have only one of the two.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    shuffled = counts[:, order]
    positive = np.add.reduceat(shuffled * yes[order], starts, axis=1).astype(np.float64)
    negative = np.add.reduceat(shuffled * ~yes[order], starts, axis=1).astype(np.float64)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * below).sum(axis=1)
    areas: Array = np.full(len(counts), np.nan)
    np.divide(won, pairs, out=areas, where=pairs > 0)
    return areas
