"""A few images that stand for a weighted sum over many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def draw_landmarks(
    weights: Array, most: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], Array]:
    """(n,) weights of at least 0 -> at most ``most`` positions, ascending, and their own weights.

    Up to ``most`` positions whose weight is not 0 are all kept as they are. Of more, each is drawn
    with a chance in proportion to its weight w, or surely where that would be more than 1, and
    weighs w over its chance, so that the expectation of a sum over the drawn is the sum over all
    (Horvitz and Thompson, 1952). The drawing is systematic, in an order by chance (Madow, 1949):
    exactly ``most``, none twice.
    """
    weighty = np.flatnonzero(weights)
    if len(weighty) <= most:
        return weighty, weights[weighty]
    chances = inclusion_chances(weights[weighty], most)
    order = generator.permutation(len(weighty))
    ends = np.cumsum(chances[order])
    # In floating point the last end may miss ``most`` by a hair, and a step the last end.
    steps = (np.arange(most) + generator.random()) * (ends[-1] / most)
    places = np.searchsorted(ends, steps, side="right").clip(max=len(order) - 1)
    drawn = np.sort(order[places])
    return weighty[drawn], weights[weighty[drawn]] / chances[drawn]


def inclusion_chances(weights: Array, size: int) -> Array:
    """(n,) weights above 0, n above ``size`` -> chances in (0, 1] that sum to ``size``.

    In proportion to the weights where that is below 1.
    """
    chances = size * weights / weights.sum()
    while (chances > 1).any():
        sure = chances >= 1
        rest = np.where(sure, 0, weights)
        chances = np.where(sure, 1, (size - sure.sum()) * rest / rest.sum())
    return np.asarray(chances, dtype=np.float64)
