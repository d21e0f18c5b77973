"""Which working copies stay in the folder where there is a bucket: those used last, and those that
the bucket does not have.

Before a process removes the first copy of a place (see :mod:`backend.shared_copies`), it asks the
bucket for its list of that place. Where the bucket has all, it need not be asked again: whatever
comes there afterwards goes to the bucket first.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from backend.shared_copies import lacking, places
from backend.shared_files import SharedFiles
from model.errors import StorageError

log = logging.getLogger(__name__)

USED_SECONDS = 3600.0
"""How exactly it is known when a copy was used: so that reading one need not write."""
LOOK_SHARE = 0.05
"""After new copies of this share of the room it is looked what lies there."""


class KeptCopies:
    """At most about ``max_bytes`` of copies below ``folder``, and more only while ``shared`` does
    not have them; safe for threads.

    Several processes may do so in the same folder. A copy that one removes while another reads it
    is fetched again.
    """

    def __init__(self, folder: Path, max_bytes: int, shared: SharedFiles) -> None:
        self._folder, self._max_bytes, self._shared = folder, max_bytes, shared
        self._all_shared = set[Path]()
        """The places of which the bucket has all."""
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
        sizes = (each for place in places(self._folder) for _, each, _ in _files(place))
        over = sum(sizes) - (1 - LOOK_SHARE) * self._max_bytes
        if over <= 0:
            return
        try:
            self._remove(over)
        except StorageError as error:
            log.warning("no working copy makes room for others: %s", error)

    def _remove(self, over: float) -> None:
        """Remove copies of so many bytes; fewer, where the bucket does not have as many."""
        ours = places(self._folder)
        for _, each, path in sorted(each for place in ours for each in self._removable(place)):
            if over <= 0:
                return
            Path(path).unlink(missing_ok=True)
            over -= each
        if over > 0:
            log.warning(
                "%s bytes of working copies are kept beyond TIEBREAK_COPIES_MAX_BYTES, because "
                "%s does not have them yet; a trainer with this data folder sends them",
                f"{over:,.0f}",
                self._shared.root,
            )

    def _removable(self, place: Path) -> list[tuple[float, int, str]]:
        """The copies of a place that the bucket has."""
        found = list(_files(place))
        if place in self._all_shared:
            return found
        only_here = {str(path) for path in lacking(self._shared, place)}
        if not only_here:
            self._all_shared.add(place)
        return [each for each in found if each[2] not in only_here]


def _files(place: Path) -> Iterator[tuple[float, int, str]]:
    """When each copy of a place was used, its bytes and its path."""
    with os.scandir(place) as entries:
        for entry in entries:
            try:
                seen = entry.stat()
            except OSError:
                continue
            yield seen.st_mtime, seen.st_size, entry.path
