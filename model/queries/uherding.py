"""Images that stand for many uncertain ones which no label covers yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.queries.geometry import (
    FloatArray,
    nearest_squared,
    rows_at,
    squared_distances,
)
from model.queries.pool import Pool, checked_count
from model.queries.radius import cover_radius
from model.queries.scores import pool_uncertainty

CANDIDATES = 8192
LANDMARKS = 3072
# Of the kernel between the two: 96 MiB of float32.
KERNEL_CELLS = CANDIDATES * LANDMARKS
_AT_ONCE = 256


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

    Exact up to 3,072 images without a label. Beyond, 3,072 landmarks drawn with chances in
    proportion to U, with replacement, stand for the sum over the images other than the candidate
    itself, whose own term is always exact; so where nothing covers anything else, the picks are
    those of the largest U. Beyond 8,192 candidates the choice is among 8,192: half of them those
    of the largest U, half drawn by chance. With more than 4,096 picks there are twice as many
    candidates as picks, and fewer landmarks.
    """
    wanted = checked_count(pool, count)
    if wanted == 0:
        return np.zeros(0, dtype=np.int64)
    unsure = pool_uncertainty(pool, "margin")
    if not unsure.any():
        unsure = np.ones(len(pool))
    candidates = _some_candidates(pool, unsure, max(CANDIDATES, 2 * wanted), generator)
    most = max(1, min(LANDMARKS, KERNEL_CELLS // len(candidates)))
    landmarks, weights = _landmarks(pool, unsure, most, generator)
    radius = cover_radius(pool, generator)
    cover = _Cover.start(pool, candidates, unsure[candidates], landmarks, weights, radius)
    return candidates[cover.greedy(wanted)]


@dataclass(eq=False)
class _Cover:
    """What c candidates would add to the cover of l landmarks, and of themselves.

    ``kernel`` is (c, l), 0 where candidate and landmark are one image; ``covered`` and
    ``own_covered`` are the largest kernel so far of each landmark and candidate.
    """

    rows: FloatArray
    unsure: FloatArray
    kernel: FloatArray
    weights: FloatArray
    covered: FloatArray
    own_covered: FloatArray
    landmark_rows: FloatArray
    radius: float

    @classmethod
    def start(
        cls,
        pool: Pool,
        candidates: NDArray[np.int64],
        unsure: NDArray[np.float64],
        landmarks: NDArray[np.int64],
        weights: NDArray[np.float64],
        radius: float,
    ) -> _Cover:
        rows, others = rows_at(pool, candidates), rows_at(pool, landmarks)
        kernel = np.empty((len(rows), len(others)), dtype=np.float32)
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            kernel[part] = _gaussian(squared_distances(rows[part], others), radius)
        _, own, same = np.intersect1d(
            candidates, landmarks, assume_unique=True, return_indices=True
        )
        kernel[own, same] = 0
        return cls(
            rows,
            unsure.astype(np.float32),
            kernel,
            weights.astype(np.float32),
            _gaussian(nearest_squared(pool, others, pool.labelled), radius),
            _gaussian(nearest_squared(pool, rows, pool.labelled), radius),
            others,
            radius,
        )

    def greedy(self, count: int) -> NDArray[np.int64]:
        """The positions among the candidates of ``count`` picks.

        Gains only shrink as more is covered, so an earlier gain bounds the next one, and only
        those that may be the largest are reckoned again (Minoux, 1978).
        """
        bounds = np.full(len(self.rows), np.inf)
        picked: list[int] = []
        for _ in range(count):
            best = self._largest_gain(bounds)
            picked.append(best)
            bounds[best] = -np.inf
            self._add(best)
        return np.array(picked, dtype=np.int64)

    def _largest_gain(self, bounds: NDArray[np.float64]) -> int:
        order = np.argsort(-bounds, kind="stable")
        best = int(order[0])
        for start in range(0, len(order), _AT_ONCE):
            part = order[start : start + _AT_ONCE]
            part = part[bounds[part] > -np.inf]
            if start and (part.size == 0 or bounds[best] >= bounds[part[0]]):
                break
            bounds[part] = self._gains(part)
            first = int(part[bounds[part].argmax()])
            best = first if start == 0 or bounds[first] > bounds[best] else best
        return best

    def _gains(self, part: NDArray[np.int64]) -> FloatArray:
        more = self.kernel[part] - self.covered
        np.maximum(more, 0, out=more)
        own = self.unsure[part] * (1 - self.own_covered[part])
        return np.asarray(more @ self.weights + own, dtype=np.float32)

    def _add(self, pick: int) -> None:
        row = self.rows[pick : pick + 1]
        for covered, rows in (
            (self.covered, self.landmark_rows),
            (self.own_covered, self.rows),
        ):
            near = _gaussian(squared_distances(row, rows)[0], self.radius)
            np.maximum(covered, near, out=covered)


def _gaussian(squared: FloatArray, radius: float) -> FloatArray:
    """The kernel at (squared) distances, written over them."""
    squared *= np.float32(-1 / radius**2)
    return np.exp(squared, out=squared)


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


def _landmarks(
    pool: Pool, unsure: NDArray[np.float64], most: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most ``most`` positions without a label, and what each weighs in the sum."""
    open_ = np.ones(len(pool), dtype=np.bool_)
    open_[pool.labelled] = False
    positions = np.flatnonzero(open_)
    weights = unsure[positions]
    if len(positions) <= most or not weights.any():
        return positions, weights
    drawn = generator.choice(len(positions), size=most, p=weights / weights.sum())
    chosen, times = np.unique(drawn, return_counts=True)
    return positions[chosen], times * (weights.sum() / most)
