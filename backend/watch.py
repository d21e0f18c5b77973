"""Whether a trainer gets on: which step it is at, and for how long nothing was seen of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_NAP = 10.0
"""A process that is not asked for this long was stopped itself; that time does not count."""


@dataclass(frozen=True)
class Hang:
    """A step that shows no progress: ``step`` of a project, 0 and empty between the steps."""

    what: str
    seconds: float
    project_id: int
    step: str

    @property
    def sentence(self) -> str:
        """It in words."""
        where = f" of project {self.project_id}" if self.project_id else ""
        return f"{self.what}{where} has shown no progress for {self.seconds:.0f} s."


class Watch:
    """The step in hand. The main thread tells, another one asks.

    ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = self._asked = clock()
        self._at = Hang("Starting", 0.0, 0, "")

    def begin(self, what: str, seconds: float, project_id: int = 0, step: str = "") -> None:
        """A step begins, which shows progress within ``seconds`` or ends within them."""
        with self._lock:
            self._at = Hang(what, seconds, project_id, step)
            self._since = self._clock()

    def progress(self) -> None:
        """The step in hand got on; safe in any thread."""
        with self._lock:
            self._since = self._clock()

    def hang(self) -> Hang | None:
        """The step in hand, when it has shown no progress for longer than it may take."""
        with self._lock:
            now = self._clock()
            self._since += max(0.0, now - self._asked - LONGEST_NAP)
            self._asked = now
            silent, at = now - self._since, self._at
        if not at.seconds or silent <= at.seconds:
            return None
        return Hang(at.what, silent, at.project_id, at.step)
