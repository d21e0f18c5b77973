"""Counts that go through all images of a project, kept for a while where they take long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.broken_images import failed_images
from backend.pool import PoolCounts, count_images
from backend.tables import ImageGroup

LONG_SECONDS = 0.5
"""Counts that are made faster are made anew each time."""
PAUSE = 20.0
"""For so many times as long as they took counts are kept: a twentieth of a processor at most."""
BROKEN_SHOWN = 20


class ImageCounts(NamedTuple):
    """``broken`` are the first tasks whose image cannot be had, with the reason;
    ``near_duplicates`` counts images that resemble an earlier one so much that they wait at the
    back."""

    images: PoolCounts
    broken: list[tuple[int, str]]
    near_duplicates: int


def image_counts(session: Session, project_id: int, backbone: str | None) -> ImageCounts:
    """As the tables are now; ``backbone`` is that of the version that serves, or None."""
    near = select(func.count()).where(
        ImageGroup.project_id == project_id, ImageGroup.leader != ImageGroup.digest
    )
    return ImageCounts(
        count_images(session, project_id, backbone),
        failed_images(session, project_id, limit=BROKEN_SHOWN),
        session.scalar(near) or 0,
    )


@dataclass
class _Kept:
    counts: ImageCounts
    until: float


class PoolCounting:
    """:func:`image_counts` for pages that are looked at again and again, by any thread.

    Projects whose counts take long get those of a little earlier, and one thread at a time makes
    them anew.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: dict[tuple[int, str | None], _Kept] = {}
        self._lock = threading.Lock()

    def __call__(self, session: Session, project_id: int, backbone: str | None) -> ImageCounts:
        key = project_id, backbone
        before = self._kept.get(key)
        if before is not None and (self._now() < before.until or self._lock.locked()):
            return before.counts
        with self._lock:
            started = self._now()
            counts = image_counts(session, project_id, backbone)
            took = self._now() - started
            if took < LONG_SECONDS:
                self._kept.pop(key, None)
            else:
                self._kept[key] = _Kept(counts, self._now() + PAUSE * took)
        return counts
