from __future__ import annotations

import threading

import numpy as np

from backend.pool_counts import PAUSE, PoolCounting
from tests.backend.conftest import BACKBONE, Tables


class Clock:
    """A clock that goes on by ``step`` each time that it is looked at."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


def counted(counting: PoolCounting, tables: Tables) -> tuple[int, int, int, int]:
    with tables.store.read() as session:
        found = counting(session, 1, BACKBONE)
    return found.images.images, found.images.embedded, len(found.broken), found.near_duplicates


def test_counts_that_are_made_fast_are_made_anew(tables: Tables) -> None:
    counting = PoolCounting(Clock(0.1))
    first = tables.task(1, np.ones(4))
    assert counted(counting, tables) == (1, 1, 0, 0)
    tables.task(2)
    tables.task(3, np.ones(4), leader=first)
    assert counted(counting, tables) == (3, 2, 0, 1)


def test_counts_that_took_long_are_kept_for_a_while(tables: Tables) -> None:
    clock = Clock(1.0)
    counting = PoolCounting(clock)
    tables.task(1, np.ones(4))
    assert counted(counting, tables) == (1, 1, 0, 0)
    until = clock.time + PAUSE
    tables.task(2)
    clock.step = 0.0
    clock.time = until - 0.01
    assert counted(counting, tables) == (1, 1, 0, 0)
    with tables.store.read() as session:
        # Of another network nothing is known yet.
        assert counting(session, 1, "another").images.embedded == 0
    clock.time = until
    assert counted(counting, tables) == (2, 1, 0, 0)
    # They were made fast this time.
    tables.task(3)
    assert counted(counting, tables) == (3, 1, 0, 0)


def test_nobody_waits_for_counts_that_another_makes(tables: Tables) -> None:
    clock = Clock(1.0)
    counting = PoolCounting(clock)
    tables.task(1, np.ones(4))
    assert counted(counting, tables) == (1, 1, 0, 0)
    tables.task(2)
    clock.time += 10 * PAUSE
    found: list[tuple[int, int, int, int]] = []
    with counting._lock:
        other = threading.Thread(target=lambda: found.append(counted(counting, tables)))
        other.start()
        other.join(30)
    assert found == [(1, 1, 0, 0)]
    assert counted(counting, tables) == (2, 1, 0, 0)
