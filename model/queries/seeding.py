"""Images far apart, by chance: the seeds of k-means++."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.queries.geometry import FloatArray, blocks, rows_at
from model.queries.pool import Pool

PROPOSALS = 128

Factors = Callable[[NDArray[np.int64]], FloatArray]
"""(b,) positions in the pool -> (b, r) factors."""


def spread(
    pool: Pool,
    positions: NDArray[np.int64],
    factors: Factors | None,
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """``count`` of (m,) positions in the pool, in the order of their drawing.

    Each image stands for the vector r ⊗ x, r its factors and x its normalised embedding (without
    ``factors``, for x). The first is drawn with chances in proportion to its squared length, each
    next one in proportion to D², its squared distance to the nearest of those drawn: Arthur and
    Vassilvitskii, *k-means++: The Advantages of Careful Seeding* (2007), section 2. Where D² is 0
    everywhere, the rest is drawn by chance.

    The vectors are never formed, since (r ⊗ x)·(s ⊗ y) = (r·s)(x·y). D² only shrinks, so 128
    proposals are drawn by the D² of the moment and each is accepted with the chance that its D²
    has left of it: the same distribution, for one pass over the images each time instead of one
    for every pick (rejection sampling; von Neumann, 1951).
    """
    return _Spread.start(pool, positions, factors).draw(count, generator)


@dataclass(eq=False)
class _Spread:
    """``nearest`` is (m,) D², at first the squared length of each vector, ``squares``."""

    pool: Pool
    positions: NDArray[np.int64]
    factors: Factors
    squares: NDArray[np.float64]
    nearest: NDArray[np.float64]

    @classmethod
    def start(cls, pool: Pool, positions: NDArray[np.int64], factors: Factors | None) -> _Spread:
        chosen = factors or _ones
        squares = np.empty(len(positions))
        for part, rows in blocks(pool, positions):
            lengths = np.einsum("ij,ij->i", rows, rows)
            squares[part] = (chosen(positions[part]) ** 2).sum(axis=1) * lengths
        return cls(pool, positions, chosen, squares, squares.copy())

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        picks: list[int] = []
        while len(picks) < count and self.nearest.sum() > 0:
            # Squared lengths do not bound the distances to the first, so that is drawn alone.
            size = PROPOSALS if picks else 1
            chances = self.nearest / self.nearest.sum()
            proposals = generator.choice(len(chances), size=size, p=chances)
            accepted = self._accept(proposals, generator.random(size))[: count - len(picks)]
            self._approach(accepted, first=not picks)
            picks += accepted
        rest = np.setdiff1d(np.arange(len(self.positions)), picks)
        picks += generator.permutation(rest)[: count - len(picks)].tolist()
        return np.asarray(self.positions[picks], dtype=np.int64)

    def _accept(self, proposals: NDArray[np.int64], chances: NDArray[np.float64]) -> list[int]:
        between = self._distances(proposals, self._rows(proposals), proposals)
        left, asked = self.nearest[proposals], chances * self.nearest[proposals]
        accepted: list[int] = []
        for at, proposal in enumerate(proposals.tolist()):
            if asked[at] < left[at]:
                accepted.append(proposal)
                left = np.minimum(left, between[at])
                left[proposals == proposal] = 0
        return accepted

    def _approach(self, picks: list[int], *, first: bool) -> None:
        """Bring ``nearest`` up to date with new ``picks``."""
        chosen = np.array(picks, dtype=np.int64)
        if first:
            self.nearest[:] = np.inf
        for part, rows in blocks(self.pool, self.positions):
            here = np.arange(part.start, part.stop)
            found = self._distances(here, rows, chosen).min(axis=1)
            self.nearest[part] = np.minimum(self.nearest[part], found)
        self.nearest[chosen] = 0

    def _distances(
        self, here: NDArray[np.int64], rows: FloatArray, there: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(a, b) squared distances between the vectors of two lists of places."""
        own = self.factors(self.positions[here]) @ self.factors(self.positions[there]).T
        products = own * (rows @ self._rows(there).T)
        distances = self.squares[here][:, None] + self.squares[there] - 2 * products
        return np.asarray(np.maximum(distances, 0), dtype=np.float64)

    def _rows(self, places: NDArray[np.int64]) -> FloatArray:
        return rows_at(self.pool, self.positions[places])


def _ones(positions: NDArray[np.int64]) -> FloatArray:
    return np.ones((len(positions), 1), dtype=np.float32)
