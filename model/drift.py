"""Whether new images differ from old ones, so that what was learned may no longer hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import embedding_matrix
from model.head import power_normalise

Array = NDArray[np.float64]

LEAST_IMAGES = 30
"""Images on either side, before anything is said."""
SIGNIFICANT = 0.01
"""It is looked at again and again, so that one in twenty would cry wolf too often."""
PERMUTATIONS = 999


@dataclass(frozen=True)
class Drift:
    """A two-sample test of ``new`` images against ``old`` ones.

    ``distance``  the squared maximum mean discrepancy, about 0 where nothing differs
    ``p_value``   how often a random parting of the same images is as far apart or farther
    ``differs``   whether that is rare enough to say so; None (as both numbers are) where there are
                  too few images
    """

    distance: float | None
    p_value: float | None
    differs: bool | None
    old: int
    new: int


def drift(old: ArrayLike, new: ArrayLike, *, seed: int = 0) -> Drift:
    """(m, d) and (n, d) embeddings -> whether they seem to come from the same source.

    The unbiased squared maximum mean discrepancy (Gretton et al., *A Kernel Two-Sample Test*, 2012,
    equation 3) of the power-normalised rows, with a Gaussian kernel as wide as the median distance
    of two images, and an exact permutation test: p is (1 + partings at least as far apart) /
    (1 + partings tried). Rows must be of different pictures: near-duplicates in both or one of them
    would break the test. Cost and memory grow with (m + n) squared; 1,000 take about a second.

    ArgumentError when the arrays are not finite numbers of one width.
    """
    before = embedding_matrix(old)
    after = embedding_matrix(new, width=before.shape[1])
    m, n = len(before), len(after)
    if min(m, n) < LEAST_IMAGES:
        return Drift(None, None, None, m, n)
    kernel = _kernel(power_normalise(np.vstack([before, after])).astype(np.float64))
    sides = np.concatenate([np.ones(m), np.zeros(n)])
    partings = np.vstack([sides, _permuted(sides, np.random.default_rng(seed))])
    distances = _discrepancies(kernel, partings, m, n)
    # Partings that are equal in all but rounding count as equally far apart.
    beyond = int((distances[1:] >= distances[0] - 1e-12).sum())
    p_value = (1 + beyond) / len(distances)
    return Drift(float(distances[0]), p_value, p_value <= SIGNIFICANT, m, n)


def _permuted(sides: Array, generator: np.random.Generator) -> Array:
    return generator.permuted(np.tile(sides, (PERMUTATIONS, 1)), axis=1)


def _kernel(rows: Array) -> Array:
    """(k, k) Gaussian kernel without its diagonal."""
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    width = float(np.median(distances[np.triu_indices(len(rows), 1)]))
    kernel = np.exp(-distances / width) if width > 0 else (distances == 0).astype(np.float64)
    np.fill_diagonal(kernel, 0)
    return np.asarray(kernel)


def _discrepancies(kernel: Array, partings: Array, m: int, n: int) -> Array:
    """(p,) squared discrepancy of each parting, a row of ones and zeros with m ones."""
    towards = partings @ kernel
    within = (towards * partings).sum(axis=1)
    between = towards.sum(axis=1) - within
    others = kernel.sum() - within - 2 * between
    return np.asarray(within / (m * (m - 1)) + others / (n * (n - 1)) - 2 * between / (m * n))
