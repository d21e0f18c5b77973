"""A project's images and labels as they are: counts, copies, and near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from backend.tables import ImageGroup, ImageSource, TaskImage

MOST_GROUPS = 50
MOST_TASKS = 100


@dataclass(frozen=True)
class Alike:
    """Tasks whose images are the same: ``tasks`` the first 100 of ``count``."""

    count: int
    tasks: list[int]


@dataclass(frozen=True)
class AlikeImages:
    """Groups of tasks with images that are alike, the largest first.

    ``groups`` in all, of ``tasks`` in all; ``shown`` the largest 50 of them.
    """

    groups: int
    tasks: int
    shown: list[Alike]


def copies(session: Session, project_id: int) -> AlikeImages:
    """Tasks whose images have the same bytes."""
    return _alike(session, project_id, _digests(project_id))


def near_duplicates(session: Session, project_id: int) -> AlikeImages:
    """Tasks whose images differ and look nearly the same, as the groups of the queue have it.

    Of several tasks with the same bytes the first stands for all.
    """
    first = _digests(project_id).with_only_columns(
        ImageSource.digest.label("digest"), func.min(TaskImage.task_id).label("task_id")
    )
    once = first.group_by(ImageSource.digest).subquery()
    grouped = (
        select(ImageGroup.leader.label("key"), once.c.task_id.label("task_id"))
        .join(once, once.c.digest == ImageGroup.digest)
        .where(ImageGroup.project_id == project_id)
    )
    return _alike(session, project_id, grouped)


def _digests(project_id: int) -> Select[str | None, int]:
    """Digest and task of each image of the project that could be had."""
    return (
        select(ImageSource.digest.label("key"), TaskImage.task_id.label("task_id"))
        .join(TaskImage, TaskImage.source == ImageSource.source)
        .where(TaskImage.project_id == project_id, ImageSource.digest.is_not(None))
    )


def _alike(
    session: Session, project_id: int, pairs: Select[str, int] | Select[str | None, int]
) -> AlikeImages:
    rows = pairs.subquery()
    count = func.count(func.distinct(rows.c.task_id))
    sizes = select(rows.c.key, count.label("n")).group_by(rows.c.key).having(count > 1)
    found = session.execute(sizes.order_by(count.desc(), rows.c.key)).all()
    largest = [(str(key), int(n)) for key, n in found[:MOST_GROUPS]]
    tasks = select(rows.c.key, rows.c.task_id).where(rows.c.key.in_([key for key, _ in largest]))
    members: dict[str, set[int]] = {}
    for key, task in session.execute(tasks):
        members.setdefault(str(key), set()).add(int(task))
    return AlikeImages(
        len(found),
        sum(int(n) for _, n in found),
        [Alike(n, _first(members[key])) for key, n in largest],
    )


def _first(tasks: set[int] | Sequence[int]) -> list[int]:
    return sorted(tasks)[:MOST_TASKS]
