"""How far the people who label agree, and how long a label takes them, each with an interval."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from model.errors import ArgumentError

Array = NDArray[np.float64]

LEAST_IMAGES = 20
"""Images that several people labelled, before anything is said of how far they agree."""
RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha: 1 for people who always agree, 0 for people who label by chance.

    ``alpha``         with the 95% interval from ``low`` to ``high``; None where it cannot be told
    ``images``        images that two people or more labelled
    ``same``          share of pairs of people on one image who said the same; None without a pair
    """

    alpha: float | None
    low: float | None
    high: float | None
    images: int
    same: float | None


@dataclass(frozen=True)
class Median:
    """The median of ``n`` numbers with its 95% interval; None where n is too small for one."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def krippendorff_alpha(votes: Sequence[Sequence[Hashable]], *, seed: int = 0) -> Agreement:
    """What each of n images was called by those who labelled it -> how far they agree.

    Nominal alpha: 1 - D_o / D_e, the disagreement within images over that among all their votes
    (Krippendorff, *Computing Krippendorff's Alpha-Reliability*, 2011, section C); images with one
    vote do not count. The interval is the percentile bootstrap over images. It cannot be told with
    fewer than 20 images, or where every vote is the same, so that chance agrees as well.
    """
    counted = [list(unit) for unit in votes if len(unit) >= 2]
    table = _counts(counted)
    same = _agreeing(table) if len(table) else None
    enough = len(table) >= LEAST_IMAGES
    value = float(_alpha(table, np.ones((1, len(table))))[0]) if enough else np.nan
    if np.isnan(value):
        return Agreement(None, None, None, len(table), same)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES)
    low, high = np.nanquantile(_alpha(table, weights), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Agreement(value, float(low), float(high), len(table), same)


def median_interval(values: ArrayLike) -> Median:
    """(n,) finite numbers -> their median, between two of them that hold it with 95% confidence.

    The order statistics r and n + 1 - r with the largest r for which a binomial of n halves is
    below r with at most 2.5% (Conover, *Practical Nonparametric Statistics*, 1999, section 3.2):
    whatever the numbers' distribution. It takes 6 of them.
    """
    numbers = np.sort(np.asarray(values, dtype=np.float64))
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ArgumentError(f"values has shape {numbers.shape}; (n,) finite numbers are needed.")
    n = numbers.size
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)) if n else 0
    while rank and binom.cdf(rank - 1, n, 0.5) > (1 - CONFIDENCE) / 2:
        rank -= 1
    middle = float(np.median(numbers)) if n else None
    if rank < 1:
        return Median(middle, None, None, n)
    return Median(middle, float(numbers[rank - 1]), float(numbers[n - rank]), n)


def _counts(units: Sequence[Sequence[Hashable]]) -> Array:
    """(images, different votes) how often each was said of each image."""
    column: dict[Hashable, int] = {}
    for unit in units:
        for vote in unit:
            column.setdefault(vote, len(column))
    table = np.zeros((len(units), len(column)))
    for row, unit in enumerate(units):
        for vote in unit:
            table[row, column[vote]] += 1
    return table


def _agreeing(table: Array) -> float:
    """Share of the pairs within images that are alike."""
    size = table.sum(axis=1)
    alike = (table * (table - 1)).sum()
    return float(alike / (size * (size - 1)).sum())


def _alpha(table: Array, weights: NDArray[Any]) -> Array:
    """(r, images) weights -> (r,) alpha of the images, each counted as often as its weight; NaN
    where there is no disagreement to be had."""
    size = table.sum(axis=1)
    # An image's pairs of different votes, over its other votes, so that each vote counts once.
    apart = (size**2 - (table**2).sum(axis=1)) / (size - 1)
    total, counts = weights @ size, weights @ table
    expected = (total**2 - (counts**2).sum(axis=1)) / (total - 1)
    observed = weights @ apart
    unknown = np.full(len(total), np.nan)
    return np.asarray(1 - np.divide(observed, expected, out=unknown, where=expected > 0))
