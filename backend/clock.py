"""What time it is, for everything that is written into the database or compared with it.

Machines that share a PostgreSQL may disagree about the time by minutes. So all of them go by the
clock of the database: it is read on every new connection and at every heartbeat, and in between
this machine's monotonic clock counts on, which nobody sets. On SQLite there is one machine, and its
own clock counts.
"""

from __future__ import annotations

import time

_read_at: tuple[float, float] | None = None
"""The database's clock, and this machine's monotonic clock at that moment."""


def now() -> float:
    """Seconds since the epoch, UTC, by the clock of the database."""
    read = _read_at
    if read is None:
        return time.time()
    return read[0] + time.monotonic() - read[1]


def follow(database: float, asked: float, answered: float) -> None:
    """Go by a database whose clock said ``database`` between two monotonic moments."""
    global _read_at
    _read_at = database, (asked + answered) / 2


def follow_this_machine() -> None:
    """Go by this machine's own clock, as before any :func:`follow`."""
    global _read_at
    _read_at = None
