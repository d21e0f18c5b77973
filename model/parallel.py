"""Parts of one computation on several cores, by threads that wait for each other once, at the end.

A linear algebra library's own threads meet many times in a second and spin meanwhile, which on a
machine with other work takes several times as long as one thread alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def cores() -> int:
    """How many cores this process may use: ``OMP_NUM_THREADS`` of them, where that is set."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(there or 1, int(said))) if said.isdecimal() else there or 1


def each(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """``function`` of each part, in their order. It should spend its time in numpy, which lets
    other threads run meanwhile."""
    workers = min(cores(), len(parts))
    if workers <= 1:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(function, parts))


def blocks(count: int, most: int) -> list[slice]:
    """``count`` rows in at most ``most`` slices of nearly the same length."""
    ends = [count * part // most for part in range(most + 1)]
    return [slice(a, b) for a, b in pairwise(ends) if b > a]
