"""Groups of images: k-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from model.queries.geometry import BLOCK, FloatArray, blocks, rows_at, squared_distances
from model.queries.pool import Pool
from model.queries.seeding import spread

SAMPLE = 20_000
# Rounds are as many as cost this many distances, but 10 to 100.
_DISTANCES = 10**8


def k_means(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(n,) cluster of each image of the pool, 0 to ``count`` - 1; some may stay empty.

    Lloyd, *Least Squares Quantization in PCM* (1982), from the seeds of
    :func:`model.queries.seeding.spread`, until nothing moves or for 10 to 100 rounds, the more the
    cheaper. Beyond 20,000 images the centres are those of 20,000 drawn by the generator.
    """
    n = len(pool)
    drawn = np.sort(generator.permutation(n)[:SAMPLE])
    seeds = spread(pool, drawn, None, count, generator)
    centres = _settle(rows_at(pool, drawn), rows_at(pool, seeds))
    clusters = np.empty(n, dtype=np.int64)
    for part, rows in blocks(pool, np.arange(n)):
        clusters[part] = _nearest(rows, centres)
    return clusters


def _settle(rows: FloatArray, centres: FloatArray) -> FloatArray:
    """The (k, d) centres of (m, d) rows after Lloyd's rounds from ``centres``."""
    rounds = np.clip(_DISTANCES // (len(rows) * len(centres)), 10, 100)
    nearest = np.full(len(rows), -1)
    for _ in range(int(rounds)):
        before, nearest = nearest, _nearest(rows, centres)
        if (before == nearest).all():
            break
        sizes = np.bincount(nearest, minlength=len(centres))
        ones = np.ones(len(rows), dtype=np.float32)
        member = csr_array((ones, (nearest, np.arange(len(rows)))), shape=(len(centres), len(rows)))
        means = (member @ rows) / np.maximum(sizes, 1)[:, None]
        centres = np.where(sizes[:, None] > 0, means, centres).astype(np.float32)
    return centres


def _nearest(rows: FloatArray, centres: FloatArray) -> NDArray[np.int64]:
    nearest = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        nearest[part] = squared_distances(rows[part], centres).argmin(axis=1)
    return nearest
