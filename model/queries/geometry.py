"""Distances between images: on their embeddings after power normalisation, as the heads see them.

Everything goes block by block, so that no second copy of a pool's embeddings is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from model.head import power_normalise
from model.queries.pool import Pool

FloatArray = NDArray[np.float32]

BLOCK = 2048


def rows_at(pool: Pool, positions: NDArray[np.int64]) -> FloatArray:
    """(b,) positions in the pool -> (b, d) float32 rows of length 1, or 0 for a row of zeros."""
    rows = np.empty((len(positions), pool.embeddings.shape[1]), dtype=np.float32)
    for start in range(0, len(positions), BLOCK):
        part = slice(start, start + BLOCK)
        rows[part] = power_normalise(pool.embeddings[positions[part]])
    return rows


def blocks(pool: Pool, positions: NDArray[np.int64]) -> Iterator[tuple[slice, FloatArray]]:
    """For each block of (m,) positions, where it lies in them and its :func:`rows_at`."""
    for start in range(0, len(positions), BLOCK):
        part = slice(start, min(start + BLOCK, len(positions)))
        yield part, rows_at(pool, positions[part])


def squared_lengths(rows: FloatArray) -> FloatArray:
    """(a, d) -> (a,)."""
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def squared_distances(
    rows: FloatArray, others: FloatArray, other_lengths: FloatArray | None = None
) -> FloatArray:
    """(a, d) and (b, d) -> (a, b) squared Euclidean distances.

    From |x|² + |y|² - 2xy in float32: twins of length 1 come out below 1e-6, not always at 0.
    ``other_lengths`` are the :func:`squared_lengths` of ``others``, where they are known.
    """
    distances = rows @ others.T
    distances *= -2
    distances += squared_lengths(rows)[:, None]
    distances += squared_lengths(others) if other_lengths is None else other_lengths
    np.maximum(distances, 0, out=distances)
    return distances


def nearest_squared(pool: Pool, rows: FloatArray, positions: NDArray[np.int64]) -> FloatArray:
    """(a,) squared distance of each of (a, d) rows to the nearest image of ``positions``.

    Infinite where there is no position.
    """
    nearest = np.full(len(rows), np.inf, dtype=np.float32)
    for _, others in blocks(pool, positions):
        lengths = squared_lengths(others)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            found = squared_distances(rows[part], others, lengths).min(axis=1)
            np.minimum(nearest[part], found, out=nearest[part])
    return nearest
