"""Images whose gradients are long and point in different directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.geometry import FloatArray
from model.queries.pool import Answers, Pool, checked_count
from model.queries.random import random
from model.queries.seeding import spread


def badge(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates by the seeding of k-means++ on their gradient embeddings.

    Ash, Zhang, Krishnamurthy, Langford and Agarwal, *Deep Batch Active Learning by Diverse,
    Uncertain Gradient Lower Bounds* (2020), algorithm 1 and equation 1: g(x) is the gradient of
    the last layer's log loss, as if the likeliest class were the true one,

        g(x) = (p - onehot(argmax p)) ⊗ x

    so it is long where the head is unsure, and g(x)·g(y) is the product of two small products: the
    (d · k) gradients are never formed. Drawn by :func:`model.queries.seeding.spread`, the first
    one in proportion to |g|². The gradient is that at the calibrated probabilities.

    ``multiple``: p - 1 of the classes with p >= 1/2, - 0 of the others. Several controls: their
    gradients lie side by side, so their products add. Without answers all candidates come by
    chance. Nothing is approximated.
    """
    wanted = checked_count(pool, count)
    if not pool.answers:
        return random(pool, count, generator)
    return spread(pool, pool.candidates(), lambda at: residuals(pool, at), wanted, generator)


def residuals(pool: Pool, positions: NDArray[np.int64]) -> FloatArray:
    """(b,) positions -> (b, sum of k) p minus what would be said, the controls side by side."""
    return np.hstack([_residual(answers, positions) for answers in pool.answers])


def _residual(answers: Answers, positions: NDArray[np.int64]) -> FloatArray:
    p = answers.probabilities[positions].astype(np.float32)
    if answers.multiple:
        return np.asarray(p - (p >= 0.5), dtype=np.float32)
    p[np.arange(len(p)), p.argmax(axis=1)] -= 1
    return p
