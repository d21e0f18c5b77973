"""How far a label reaches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.geometry import nearest_squared, rows_at, squared_distances
from model.queries.pool import Pool

SAMPLE = 1024
# Measured on CIFAR-10, with labels from 20 to 2,000: 0.7 of the scale at first is worth six points
# at 20 labels over the whole scale; any quantile from 0.1 on does as well later.
LEAST_SHARE, MOST_SHARE = 0.25, 0.7


def cover_radius(pool: Pool, generator: np.random.Generator) -> float:
    """The radius σ of a Gaussian kernel between images, above 0; it shrinks as labels come.

    Bae, Oliveira and Sutherland (2025) take the smallest distance between two labelled images.
    One pair of twins makes that 0, so here σ is the median of the distances from labelled images
    to their nearest other labelled image, within 0.25 and 0.7 of the pool's scale: the median
    distance between two images drawn by chance, which twins hardly move. With fewer than two
    labels it is 0.7 of the scale, and 1 where all images are alike. Of more than 1,024 images or
    labels 1,024 are drawn by the generator.
    """
    scale = _median_distance(pool, generator)
    if scale == 0:
        return 1.0
    if len(pool.labelled) < 2:
        return MOST_SHARE * scale
    apart = float(np.median(_label_distances(pool, generator)))
    return min(max(apart, LEAST_SHARE * scale), MOST_SHARE * scale)


def _median_distance(pool: Pool, generator: np.random.Generator) -> float:
    drawn = generator.permutation(len(pool))[:SAMPLE]
    rows = rows_at(pool, drawn)
    upper = np.triu_indices(len(rows), 1)
    squared = squared_distances(rows, rows)[upper]
    return float(np.sqrt(np.median(squared))) if squared.size else 0.0


def _label_distances(pool: Pool, generator: np.random.Generator) -> NDArray[np.float32]:
    """The distance from each of at most 1,024 labelled images to its nearest other one."""
    asked = generator.permutation(pool.labelled)[:SAMPLE]
    others = np.setdiff1d(pool.labelled, asked)
    rows = rows_at(pool, asked)
    between = squared_distances(rows, rows)
    np.fill_diagonal(between, np.inf)
    nearest = np.minimum(between.min(axis=1), nearest_squared(pool, rows, others))
    return np.asarray(np.sqrt(nearest), dtype=np.float32)
