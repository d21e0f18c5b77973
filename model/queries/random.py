"""Images drawn by chance: what every other strategy has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.queries.pool import Pool, checked_count


def random(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates, drawn uniformly without replacement."""
    return generator.permutation(pool.candidates())[: checked_count(pool, count)]
