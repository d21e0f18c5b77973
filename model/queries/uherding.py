"""Images that stand for many uncertain ones which no label covers yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.cover import Cover
from model.queries.landmarks import draw_landmarks
from model.queries.pool import Pool, checked_count
from model.queries.radius import cover_radius
from model.queries.scores import pool_uncertainty

CANDIDATES = 8192
LANDMARKS = 3072
# Of the kernel between the two: 96 MiB of float32.
KERNEL_CELLS = CANDIDATES * LANDMARKS


def uherding(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates that greedily maximise the uncertainty coverage of the pool.

    Bae, Oliveira and Sutherland, *Uncertainty Herding: One Active Learning Method for All Label
    Budgets* (2025): each next pick adds the most to

        sum over i of U(x_i) max over x' in labelled and picked of k(x_i, x')

    with k(x, x') = exp(-|x - x'|² / σ²), σ by :func:`model.queries.radius.cover_radius` and U the
    margin uncertainty of the calibrated probabilities. The sum runs over barred images too.
    Without answers, or where nothing is unsure, U is 1: MaxHerding (Bae, Noh and Sutherland,
    *Generalized Coverage for More Robust Low-Budget Active Learning*, 2024). Several controls: U
    is the largest over them. ``multiple``: U is the mean over the classes.

    Exact up to 3,072 images without a label. Beyond, as many landmarks by
    :func:`model.queries.landmarks.draw_landmarks` stand for the sum over the images other than the
    candidate itself. Its own term is always exact, so where nothing covers anything else, the
    picks are those of the largest U. Beyond 8,192 candidates the choice is among 8,192: half of
    them those of the largest U, half drawn by chance. With more than 4,096 picks there are twice
    as many candidates as picks, and fewer landmarks.
    """
    wanted = checked_count(pool, count)
    return Herd(pool, wanted, generator).pick(wanted) if wanted else np.zeros(0, dtype=np.int64)


class Herd:
    """Uncertainty herding that goes on from what was picked before.

    At most ``most`` images are picked of the ``pool``, at least one of which is a candidate.
    """

    def __init__(self, pool: Pool, most: int, generator: np.random.Generator) -> None:
        unsure = _unsure(pool)
        self.candidates = _some_candidates(pool, unsure, max(CANDIDATES, 2 * most), generator)
        size = max(1, min(LANDMARKS, KERNEL_CELLS // len(self.candidates)))
        landmarks, weights = draw_landmarks(unsure, size, generator)
        radius = cover_radius(pool, generator)
        own = unsure[self.candidates]
        self.cover = Cover.start(pool, self.candidates, own, landmarks, weights, radius)

    def pick(self, count: int) -> NDArray[np.int64]:
        """The positions in the pool of the next ``count`` picks."""
        return self.candidates[self.cover.greedy(count)]

    def take(self, positions: NDArray[np.int64]) -> None:
        """These candidates were picked by somebody else, and cover what is near them."""
        for place in np.flatnonzero(np.isin(self.candidates, positions)).tolist():
            self.cover.take(place)


def _some_candidates(
    pool: Pool, unsure: NDArray[np.float64], most: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """At most ``most`` candidates in an order by chance, which decides between equal gains."""
    candidates: NDArray[np.int64] = generator.permutation(pool.candidates())
    if len(candidates) <= most:
        return candidates
    order = np.argsort(-unsure[candidates], kind="stable")
    half = most // 2
    rest = generator.choice(order[half:], size=most - half, replace=False)
    kept = generator.permutation(np.concatenate([order[:half], rest]))
    return np.asarray(candidates[kept], dtype=np.int64)


def _unsure(pool: Pool) -> NDArray[np.float64]:
    """(n,) U; 0 for labelled images, which are covered whatever is picked."""
    unsure = pool_uncertainty(pool, "margin")
    unsure[pool.labelled] = 0
    if not unsure.any():
        unsure[:] = 1
        unsure[pool.labelled] = 0
    return unsure
