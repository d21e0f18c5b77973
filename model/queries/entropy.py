"""Images whose probabilities are spread over many classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.pool import Pool
from model.queries.scores import most_uncertain


def entropy(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates of the largest entropy -sum p ln p / ln k.

    Shannon (1948); Settles, *Active Learning Literature Survey* (2009), section 3.1:
    :func:`model.uncertainty.entropy`. Equals come in an order by chance, and so do all candidates
    while there are no answers. Several controls: the largest decides, which the unit ln k makes
    fair to controls with few classes. ``multiple``: the mean over the classes of the entropy of
    yes and no.
    """
    return most_uncertain(pool, "entropy", count, generator)
