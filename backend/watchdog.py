"""Ends a trainer that hangs, or that takes too long to stop.

A step that never ends cannot be interrupted from outside: it may wait for a lock or be deep inside
a library. So the process ends, as if it had been killed, and whatever restarts it goes on from what
is committed. A second guard stands below Python, for a library that never gives the interpreter
back.
"""

from __future__ import annotations

import faulthandler
import logging
import threading
import time
from collections.abc import Callable

from backend.pulse import Pulse
from backend.watch import Hang, Watch

log = logging.getLogger(__name__)

TICK = 0.5
HUNG = 75
"""Exit status of a trainer whose step showed no progress: something went wrong for now."""
GUARD_SECONDS = 30.0
STDERR = 2


class Watchdog:
    """Looks after one trainer from a thread of its own.

    ``stopping``      set when the trainer was told to stop
    ``stop_seconds``  how long it may then take to end the step in hand
    ``give_up``       told of the hang, or None where stopping took too long; does not return
    ``longest``       the longest limit of a step, after which the guard below Python ends it
    """

    def __init__(
        self,
        watch: Watch,
        stopping: threading.Event,
        stop_seconds: float,
        give_up: Callable[[Hang | None], None],
        longest: float | None = None,
    ) -> None:
        self._watch, self._stopping, self._stop_seconds = watch, stopping, stop_seconds
        self._give_up, self._longest = give_up, longest
        self._pulse = Pulse()
        self._done = threading.Event()
        self._guarded_at = 0.0
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """The trainer has ended in good order."""
        self._done.set()
        self._thread.join()
        if self._longest is not None:
            faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        told_at: float | None = None
        while not self._done.wait(TICK):
            self._guard()
            self._pulse.beat()
            hang = self._watch.hang()
            if hang is not None:
                self._give_up(hang)
            if self._stopping.is_set():
                told_at = told_at or time.monotonic()
                if time.monotonic() - told_at > self._stop_seconds:
                    self._give_up(None)

    def _guard(self) -> None:
        """Put off once more what ends the process where this thread does not run any longer."""
        now = time.monotonic()
        if self._longest is not None and now - self._guarded_at > GUARD_SECONDS:
            self._guarded_at = now
            seconds = self._longest + 2 * GUARD_SECONDS
            faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)
