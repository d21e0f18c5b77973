"""Images between two classes that are about as likely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.pool import Pool
from model.queries.scores import most_uncertain


def margin(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates of the least margin, p1 - p2 of the two likeliest classes.

    Scheffer, Decomain and Wrobel, *Active Hidden Markov Models for Information Extraction*
    (2001): :func:`model.uncertainty.margin`. Equals come in an order by chance, and so do all
    candidates while there are no answers. Several controls: the one with the least margin
    decides. ``multiple``: the mean over the classes of the margin between yes and no.
    """
    return most_uncertain(pool, "margin", count, generator)
