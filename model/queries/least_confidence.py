"""Images whose likeliest class is not likely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.pool import Pool
from model.queries.scores import most_uncertain


def least_confidence(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates of the largest 1 - max p, scaled to [0, 1] by k / (k - 1).

    Settles, *Active Learning Literature Survey* (2009), section 3.1:
    :func:`model.uncertainty.least_confidence`. Equals come in an order by chance, and so do all
    candidates while there are no answers. Several controls: the largest decides, which the scale
    makes fair to controls with few classes. ``multiple``: the mean over the classes.
    """
    return most_uncertain(pool, "least-confidence", count, generator)
