"""Scores of images, and the best of them as picks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.pool import Pool, checked_count
from model.uncertainty import uncertainty


def pool_uncertainty(pool: Pool, measure: str) -> NDArray[np.float64]:
    """(n,) uncertainty of each image in [0, 1]: the largest over the controls.

    ``measure`` is a name in :data:`model.uncertainty.STRATEGIES`. One visit labels all controls of
    an image, so the control that needs it most decides, as in
    :func:`model.queue.queue_scores`. Without answers nothing is known, and every score is 1.
    """
    scores = np.ones(len(pool))
    for position, answers in enumerate(pool.answers):
        found = uncertainty(measure, answers.probabilities, answers.multiple)
        scores = found if position == 0 else np.maximum(scores, found)
    return scores


def most_uncertain(
    pool: Pool, measure: str, count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` candidates of the largest :func:`pool_uncertainty`, largest first."""
    return highest(pool, pool_uncertainty(pool, measure), count, generator)


def highest(
    pool: Pool, scores: NDArray[np.float64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` candidates with the highest of (n,) ``scores``, highest first.

    The generator decides between equals.
    """
    candidates = generator.permutation(pool.candidates())
    order = np.argsort(-scores[candidates], kind="stable")
    return candidates[order[: checked_count(pool, count)]]
