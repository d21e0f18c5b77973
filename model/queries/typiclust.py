"""Images in the thick of groups that have no label yet."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from model.queries.clusters import k_means
from model.queries.geometry import rows_at, squared_distances
from model.queries.pool import Pool, checked_count

CLUSTERS = 500
MEMBERS = 4096
NEIGHBOURS = 20
_AT_ONCE = 512


def typiclust(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates, the most typical one of each of the largest clusters without labels.

    Hacohen, Dekel and Weinshall, *Active Learning on a Budget: Opposite Strategies Suit High and
    Low Budgets* (2022), section 3: all images, the barred ones too, go into min(m + count, 500)
    clusters by k-means. The next pick is from the cluster with the fewest labels and picks, of
    those from the largest, equals by chance. It is the candidate of that cluster with the largest

        typicality(x) = (mean over the 20 nearest neighbours y of x in its cluster of |x - y|)^-1

    or all neighbours where there are fewer. Needs no answers and does not read them.

    Beyond 20,000 images the centres are those of 20,000 drawn by chance, and every image goes to
    the nearest. In a cluster of more than 4,096 images typicality is that among 4,096 drawn by
    chance; the others come after those, in an order by chance.
    """
    wanted = checked_count(pool, count)
    if wanted == 0:
        return np.zeros(0, dtype=np.int64)
    cluster_count = min(len(pool.labelled) + wanted, CLUSTERS, len(pool))
    clusters = k_means(pool, cluster_count, generator)
    labels = np.bincount(clusters[pool.labelled], minlength=cluster_count)
    sizes = np.bincount(clusters, minlength=cluster_count)
    may_be_picked = np.zeros(len(pool), dtype=np.bool_)
    may_be_picked[pool.candidates()] = True
    chances = generator.permutation(cluster_count)
    waiting = [(int(labels[c]), -int(sizes[c]), int(chances[c]), c) for c in range(cluster_count)]
    heapq.heapify(waiting)
    orders: dict[int, list[int]] = {}
    picks: list[int] = []
    while len(picks) < wanted:
        known, size, chance, cluster = heapq.heappop(waiting)
        if cluster not in orders:
            members = by_typicality(pool, np.flatnonzero(clusters == cluster), generator)
            orders[cluster] = members[may_be_picked[members]][::-1].tolist()
        if orders[cluster]:
            picks.append(orders[cluster].pop())
            heapq.heappush(waiting, (known + 1, size, chance, cluster))
    return np.array(picks, dtype=np.int64)


def by_typicality(
    pool: Pool, members: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """The (s,) positions of one cluster, the most typical first; equals come by chance."""
    members = generator.permutation(members)
    judged, rest = members[:MEMBERS], members[MEMBERS:]
    neighbours = min(NEIGHBOURS, len(judged) - 1)
    if neighbours < 1:
        return members
    rows = rows_at(pool, judged)
    spread = np.empty(len(rows))
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        squared = squared_distances(rows[part], rows)
        # An image is no neighbour of itself, but its twins are.
        own = np.arange(len(squared))
        squared[own, start + own] = np.inf
        nearest = np.partition(squared, neighbours - 1, axis=1)[:, :neighbours]
        spread[part] = np.sqrt(nearest).mean(axis=1)
    return np.concatenate([judged[np.argsort(spread, kind="stable")], rest])
