"""Many numbers in a short text: ``1-40,45,47-60``."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def ranges_of(ids: Iterable[int]) -> str:
    """Non-negative whole numbers as a text; repeated ones and their order are lost."""
    numbers = np.unique(np.fromiter(ids, dtype=np.int64))
    if not numbers.size:
        return ""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ",".join(f"{run[0]}" if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def ids_of(ranges: str) -> NDArray[np.int64]:
    """The numbers that :func:`ranges_of` wrote, ascending."""
    runs = [run.partition("-") for run in ranges.split(",") if run]
    found = [np.arange(int(first), int(last or first) + 1) for first, _, last in runs]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
