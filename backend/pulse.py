"""Signs of life of a child process to its supervisor: bytes in a pipe.

A pipe needs no disk and no database, so a full one is not taken for a child that hangs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

VARIABLE = "TIEBREAK_PULSE"
"""Number of the file descriptor that the child writes to."""
START_SECONDS = 600.0
"""How long a child may take to its first sign: it migrates the database before."""
LONGEST_NAP = 10.0
"""A supervisor that was stopped for longer than this does not blame the child."""


class Listener:
    """The supervisor's end: whether a child has been silent for ``seconds``."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.restart()

    def restart(self) -> None:
        """Another child takes the place of the last one."""
        self._drain()
        self._heard = False
        self._since = self._asked = self._clock()

    def environment(self) -> dict[str, str]:
        """What tells the child where to write; it must inherit :attr:`writer`."""
        return {VARIABLE: str(self.writer)}

    def is_silent(self) -> bool:
        """Whether nothing was heard for too long."""
        now = self._clock()
        self._since += max(0.0, now - self._asked - LONGEST_NAP)
        self._asked = now
        if self._drain():
            self._heard, self._since = True, now
        limit = self.seconds if self._heard else max(self.seconds, START_SECONDS)
        return now - self._since > limit

    def close(self) -> None:
        """Listen no longer."""
        os.close(self._reader)
        os.close(self.writer)

    def _drain(self) -> bool:
        try:
            return bool(os.read(self._reader, 65_536))
        except BlockingIOError:
            return False


class Pulse:
    """The child's end; nothing happens where no supervisor listens."""

    def __init__(self) -> None:
        self._writer = _given()

    def beat(self) -> None:
        """Give a sign of life; never waits."""
        if self._writer is None:
            return
        try:
            os.write(self._writer, b".")
        except BlockingIOError:
            pass  # nobody reads just now, and finds enough later
        except OSError:
            self._writer = None


def _given() -> int | None:
    """The descriptor that the supervisor gave this process, hidden from its own children."""
    number = os.environ.pop(VARIABLE, "")
    if not number.isdecimal():
        return None
    try:
        os.set_blocking(int(number), False)
        os.set_inheritable(int(number), False)
    except OSError:
        return None
    return int(number)
