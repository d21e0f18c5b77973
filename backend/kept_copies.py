"""Which working copies stay in the folder where a bucket holds them all: those used last."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

USED_SECONDS = 3600.0
"""How exactly it is known when a copy was used: so that reading one need not write."""
LOOK_SHARE = 0.05
"""After new copies of this share of the room it is looked what lies there."""


class KeptCopies:
    """At most about ``max_bytes`` of copies below ``folder``; safe for threads.

    Several processes may do so in the same folder. A copy that one removes while another reads it
    is fetched again.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._until_look = 0.0

    def used(self, path: Path) -> None:
        """Remember that a copy was read."""
        try:
            if time.time() - path.stat().st_mtime > USED_SECONDS:
                os.utime(path)
        except OSError:
            return  # another process has removed it

    def make_room(self, size: int) -> None:
        """Before a copy of so many bytes is written: remove what was not used for longest."""
        with self._lock:
            self._until_look -= size
            if self._until_look > 0:
                return
            self._until_look = LOOK_SHARE * self._max_bytes
        found = sorted(_files(self._folder))
        over = sum(each for _, each, _ in found) - (1 - LOOK_SHARE) * self._max_bytes
        for _, each, path in found:
            if over <= 0:
                return
            Path(path).unlink(missing_ok=True)
            over -= each


def _files(folder: Path) -> Iterator[tuple[float, int, str]]:
    """When each copy was used, its bytes and its path."""
    for place in folder.glob("[0-9a-f][0-9a-f]"):
        with os.scandir(place) as entries:
            for entry in entries:
                try:
                    seen = entry.stat()
                except OSError:
                    continue
                yield seen.st_mtime, seen.st_size, entry.path
