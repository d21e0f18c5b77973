"""What the neighbours of an image are called says what it is called itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from model.parallel import blocks, each

FloatArray = NDArray[np.float32]

NEIGHBOURS = 15
ITERATIONS = 25
ALPHA = 0.9
_BLOCK = 1024
_TINY = 1e-12


def nearest(
    points: FloatArray, others: FloatArray, count: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """The ``count`` nearest of (u, r) ``others`` to each of (m, r) ``points``.

    Returns (m, count) positions, nearest first, and their squared distances; ``count`` is at most
    u.
    """
    lengths = np.einsum("ij,ij->i", others, others)
    found = np.empty((len(points), count), dtype=np.int64)
    distances = np.empty((len(points), count), dtype=np.float32)

    def look(part: slice) -> None:
        block = points[part]
        squared = lengths - 2 * (block @ others.T)
        near = np.argpartition(squared, count - 1, axis=1)[:, :count]
        unsorted = np.take_along_axis(squared, near, axis=1)
        order = np.argsort(unsorted, axis=1, kind="stable")
        found[part] = np.take_along_axis(near, order, axis=1)
        own = np.einsum("ij,ij->i", block, block)[:, None]
        distances[part] = np.maximum(np.take_along_axis(unsorted, order, axis=1) + own, 0)

    each(look, blocks(len(points), max(1, -(-len(points) // _BLOCK))))
    return found, distances


def affinities(distances: FloatArray) -> FloatArray:
    """(m, c) squared distances, ascending -> (m, c) exp(-d / s), s the median of each row."""
    scale = distances[:, [distances.shape[1] // 2]] + _TINY
    return np.asarray(np.exp(-distances / scale), dtype=np.float32)


def neighbour_graph(points: FloatArray) -> sparse.csr_matrix:
    """(u, r) points, u at least 2 -> the (u, u) matrix S of Zhou et al. (2004), step 2.

    W joins each point with its nearest ones, S = D^-1/2 W D^-1/2 with D the sums of W's rows.
    """
    u = len(points)
    near, distances = nearest(points, points, min(NEIGHBOURS + 1, u))
    rows = np.repeat(np.arange(u), near.shape[1])
    weights = affinities(distances).ravel()
    # Twins at distance 0 may stand before the point itself, so it is taken out by its number.
    others = near.ravel() != rows
    graph = sparse.csr_matrix((weights[others], (rows[others], near.ravel()[others])), (u, u))
    graph = graph.maximum(graph.T)
    shrink = sparse.diags_array(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel() + _TINY))
    return sparse.csr_matrix((shrink @ graph @ shrink).astype(np.float32))


def propagate(graph: sparse.csr_matrix, seeds: FloatArray) -> FloatArray:
    """(u, c) seeds -> (u, c): F <- alpha S F + (1 - alpha) seeds, repeated.

    Zhou, Bousquet, Lal, Weston and Schölkopf, *Learning with Local and Global Consistency* (2004),
    step 3, with alpha 0.9. 25 steps leave 7% of the way to the limit.
    """
    seeds = np.ascontiguousarray(seeds, dtype=np.float32)
    flow = seeds
    for _ in range(ITERATIONS):
        flow = np.float32(ALPHA) * (graph @ flow) + np.float32(1 - ALPHA) * seeds
    return flow
