"""How well labels and picks cover a pool, and which pick would cover the most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import parallel
from model.queries.geometry import (
    FloatArray,
    nearest_squared,
    rows_at,
    squared_distances,
    squared_lengths,
)
from model.queries.pool import Pool

_AT_ONCE = 256


@dataclass(eq=False)
class Cover:
    """What c candidates would add to the cover of l landmarks, and of themselves.

    ``kernel`` is (c, l), 0 where candidate and landmark are one image: ``own_landmark`` is the
    position of that landmark, or -1. ``covered`` and ``own_covered`` are the largest kernel so far
    of each landmark and candidate. ``lengths`` are those of the candidates' rows, squared.
    """

    rows: FloatArray
    lengths: FloatArray
    unsure: FloatArray
    kernel: FloatArray
    weights: FloatArray
    covered: FloatArray
    own_covered: FloatArray
    own_landmark: NDArray[np.int64]
    radius: float
    bounds: NDArray[np.float64]

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
        lengths = squared_lengths(others)

        def write(part: slice) -> None:
            kernel[part] = _gaussian(squared_distances(rows[part], others, lengths), radius)

        # Parts of a fixed size, so that as many cores as there are come to the same numbers.
        starts = range(0, len(rows), _AT_ONCE)
        parallel.each(write, [slice(start, start + _AT_ONCE) for start in starts])
        _, own, same = np.intersect1d(
            candidates, landmarks, assume_unique=True, return_indices=True
        )
        kernel[own, same] = 0
        own_landmark = np.full(len(rows), -1, dtype=np.int64)
        own_landmark[own] = same
        return cls(
            rows,
            squared_lengths(rows),
            unsure.astype(np.float32),
            kernel,
            weights.astype(np.float32),
            _gaussian(nearest_squared(pool, others, pool.labelled), radius),
            _gaussian(nearest_squared(pool, rows, pool.labelled), radius),
            own_landmark,
            radius,
            np.full(len(rows), np.inf),
        )

    def greedy(self, count: int) -> NDArray[np.int64]:
        """The positions among the candidates of ``count`` more picks.

        Gains only shrink as more is covered, so an earlier gain bounds the next one, and only
        those that may be the largest are reckoned again (Minoux, 1978).
        """
        picked: list[int] = []
        for _ in range(count):
            best = self._largest_gain()
            picked.append(best)
            self.take(best)
        return np.array(picked, dtype=np.int64)

    def take(self, position: int) -> None:
        """The candidate at this position is picked, whoever chose it."""
        self.bounds[position] = -np.inf
        self._add(position)

    def _largest_gain(self) -> int:
        bounds = self.bounds
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
        np.maximum(self.covered, self.kernel[pick], out=self.covered)
        if self.own_landmark[pick] >= 0:
            self.covered[self.own_landmark[pick]] = 1
        row = self.rows[pick : pick + 1]
        near = _gaussian(squared_distances(row, self.rows, self.lengths)[0], self.radius)
        np.maximum(self.own_covered, near, out=self.own_covered)


def _gaussian(squared: FloatArray, radius: float) -> FloatArray:
    """The kernel at (squared) distances, written over them."""
    squared *= np.float32(-1 / radius**2)
    return np.exp(squared, out=squared)
