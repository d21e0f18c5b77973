"""Long lists, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

SQL_SLICE = 500
"""Values that one statement names; databases limit how many there may be."""

Item = TypeVar("Item")


def batched_lists(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to ``size`` of the items, in order."""
    return (list(items[i : i + size]) for i in range(0, len(items), size))
