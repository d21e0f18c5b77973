"""Images far from all that is labelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.geometry import FloatArray, blocks, nearest_squared, rows_at, squared_distances
from model.queries.pool import Pool, checked_count

ACTIVE = 4096


def coreset(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates, each the farthest from its nearest labelled or picked image.

    Sener and Savarese, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*
    (2018), algorithm 1, k-center greedy: argmax over x of min over x' in labelled and picked of
    |x - x'|. Without labels the first is the candidate nearest to the mean of the pool: the
    farthest from it would be an outlier, and so is much of what follows anyway. Equals come by
    chance. Needs no answers and does not read them.

    Nothing is approximated. Distances only shrink, so picks are made among the 4,096 farthest
    until none of those is as far as any other was; then all distances are brought up to date.
    """
    wanted = checked_count(pool, count)
    candidates = generator.permutation(pool.candidates())
    picks: list[int] = []
    if wanted and not len(pool.labelled):
        picks.append(_most_central(pool, candidates))
    nearest = _label_distances(pool, candidates)
    _approach(pool, candidates, nearest, picks)
    while len(picks) < wanted:
        found = _farthest(pool, candidates, nearest, wanted - len(picks))
        picks += found
        if len(picks) < wanted:
            _approach(pool, candidates, nearest, found)
    return np.asarray(candidates[picks], dtype=np.int64)


def _most_central(pool: Pool, candidates: NDArray[np.int64]) -> int:
    total = np.zeros(pool.embeddings.shape[1])
    for _, rows in blocks(pool, np.arange(len(pool))):
        total += rows.sum(axis=0, dtype=np.float64)
    mean = (total / len(pool)).astype(np.float32)[None]
    distances = np.empty(len(candidates), dtype=np.float32)
    for part, rows in blocks(pool, candidates):
        distances[part] = squared_distances(rows, mean)[:, 0]
    return int(distances.argmin())


def _label_distances(pool: Pool, candidates: NDArray[np.int64]) -> FloatArray:
    nearest = np.full(len(candidates), np.inf, dtype=np.float32)
    if len(pool.labelled):
        for part, rows in blocks(pool, candidates):
            nearest[part] = nearest_squared(pool, rows, pool.labelled)
    return nearest


def _approach(
    pool: Pool, candidates: NDArray[np.int64], nearest: FloatArray, picks: list[int]
) -> None:
    """Bring the (c,) squared distances up to date with new picks, which leave with -1."""
    if not picks:
        return
    for part, rows in blocks(pool, candidates):
        found = nearest_squared(pool, rows, candidates[picks])
        nearest[part] = np.minimum(nearest[part], found)
    nearest[picks] = -1


def _farthest(
    pool: Pool, candidates: NDArray[np.int64], nearest: FloatArray, count: int
) -> list[int]:
    """Up to ``count`` next picks, at least one, that no candidate left out could come before."""
    order = np.argpartition(-nearest, min(ACTIVE, len(nearest) - 1))
    active = np.sort(order[:ACTIVE])
    outside = nearest[order[ACTIVE:]].max(initial=0)
    rows, left = rows_at(pool, candidates[active]), nearest[active]
    picks: list[int] = []
    while len(picks) < count and left.max() >= outside:
        best = int(left.argmax())
        picks.append(int(active[best]))
        left = np.minimum(left, squared_distances(rows, rows[best : best + 1])[:, 0])
        left[np.isin(active, picks)] = -1
    return picks
