"""How well labels and picks cover a pool, and which pick would cover the most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.queries.geometry import FloatArray, nearest_squared, rows_at, squared_distances
from model.queries.pool import Pool

_AT_ONCE = 256


@dataclass(eq=False)
class Cover:
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
    ) -> Cover:
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
