"""Working copies in the bucket: their names there, and those of a folder that it does not have.

A copy goes to the bucket before it is kept here, but for those of the time before there was a
bucket. The folder has a place for every first two digits; place by place is compared with the
bucket, so that no more than one place's names are in memory, and one list costs one request per
thousand names.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from pathlib import Path

from backend.shared_files import SharedFiles

log = logging.getLogger(__name__)

PROGRESS = 1000
"""After so many copies it is said how far sending them is."""


def copy_key(digest: str) -> str:
    """Name of a copy in the bucket."""
    return f"images/{digest[:2]}/{digest}"


def places(folder: Path) -> list[Path]:
    """The places in the folder of working copies, in order."""
    return sorted(folder.glob("[0-9a-f][0-9a-f]"))


def lacking(shared: SharedFiles, place: Path) -> list[Path]:
    """The copies in a place that the bucket does not have, in order.

    Raises:
        StorageError: the bucket cannot be had.
    """
    # First what is here: a copy that comes in between is in the bucket already.
    with os.scandir(place) as entries:
        here = [Path(entry.path) for entry in entries]
    there = shared.under(f"images/{place.name}/")
    copies = [path for path in here if re.fullmatch(r"[0-9a-f]{64}", path.stem)]
    return sorted(path for path in copies if copy_key(path.stem) not in there)


def share_copies(shared: SharedFiles, folder: Path, stop: threading.Event) -> int:
    """Send the copies that the bucket does not have, until ``stop``; how many were sent.

    One that was cut off goes on where it was, by what the bucket has then.

    Raises:
        StorageError: the bucket cannot be had.
    """
    sent = 0
    for place in places(folder):
        for path in lacking(shared, place):
            if stop.is_set():
                return sent
            try:
                data = path.read_bytes()
            except OSError as error:
                log.warning("%s was not sent to the bucket: %s", path, error.strerror)
                continue
            shared.put(copy_key(path.stem), data)
            sent += 1
            if sent % PROGRESS == 0:
                log.info(
                    "%s working copies sent to %s; now at place %s of 00 to ff",
                    f"{sent:,}",
                    shared.root,
                    place.name,
                )
    if sent:
        log.info("all %s working copies that were only here are in %s", f"{sent:,}", shared.root)
    return sent
