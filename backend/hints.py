"""Hints: something may have changed in Label Studio.

A hint is never believed, only followed: the reconciler asks Label Studio what is really there. So a
hint may be lost, doubled or out of order; a lost one costs at most one periodic look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from backend import clock
from backend.batches import SQL_SLICE
from backend.log_context import MOST_REQUESTS, request_id
from backend.store import Store
from backend.tables import Hint, Project, storable

ACTION_LENGTH = 60
EVERYTHING_ABOVE = 500
"""More named tasks than this are cheaper to look at all together."""


@dataclass(frozen=True)
class Look:
    """What the hints with these ``ids`` ask for."""

    ids: tuple[int, ...]
    everything: bool
    task_ids: tuple[int, ...]
    newest_at: float
    request_ids: tuple[str, ...] = ()
    """The requests that left them, the newest last."""


def add_hint(
    store: Store, project_id: int, action: str, task_ids: Sequence[int] | None, *, train: bool
) -> bool:
    """Keep a hint; ``train`` also asks for a training now. False for an unknown project.

    Label Studio waits a second for a webhook's answer, so this waits for no long transaction.
    """
    with store.write(alone=train) as session:
        project = session.get(Project, project_id)
        if project is None:
            return False
        if train:
            project.train_requested_at = clock.now()
        session.add(
            Hint(
                project_id=project_id,
                action=storable(action, ACTION_LENGTH),
                task_ids=None if task_ids is None else sorted(set(task_ids)),
                created_at=clock.now(),
                request_id=request_id(),
            )
        )
    return True


def pending_look(store: Store, project_id: int) -> Look | None:
    """All waiting hints of a project as one look; none when nothing waits."""
    with store.read() as session:
        hints = session.scalars(
            select(Hint).where(Hint.project_id == project_id).order_by(Hint.id)
        ).all()
    if not hints:
        return None
    task_ids = sorted({t for hint in hints for t in hint.task_ids or ()})
    everything = any(h.task_ids is None for h in hints) or len(task_ids) > EVERYTHING_ABOVE
    request_ids = tuple(hint.request_id for hint in hints if hint.request_id)[-MOST_REQUESTS:]
    ids = tuple(hint.id for hint in hints)
    return Look(ids, everything, tuple(task_ids), hints[-1].created_at, request_ids)


def forget_hints(store: Store, project_id: int, ids: Sequence[int]) -> None:
    """Drop the hints that a finished look has covered, and no other: one with a lower number may
    have come later. Whose they were is kept with the project, until what they were about is
    learned."""
    with store.write() as session:
        followed = list[str]()
        for start in range(0, len(ids), SQL_SLICE):
            covered = Hint.id.in_(ids[start : start + SQL_SLICE])
            named = select(Hint.request_id).where(covered, Hint.request_id != "")
            followed += session.scalars(named.order_by(Hint.id))
            session.execute(delete(Hint).where(covered))
        project = session.get(Project, project_id)
        if project is not None and followed:
            project.following = [*project.following, *followed][-MOST_REQUESTS:]


def close_request(session: Session, project: Project, until: float) -> bool:
    """Take back a request for a training that is answered; whether none is open any more.

    One that was made after ``until`` stays, and so does every one while a hint waits: the request
    may be about a label that nobody has looked at yet.
    """
    if project.train_requested_at is None:
        return True
    waits = session.scalar(select(Hint.id).where(Hint.project_id == project.id).limit(1))
    if project.train_requested_at > until or waits is not None:
        return False
    project.train_requested_at = None
    return True


def newest_hints(store: Store) -> dict[int, tuple[int, float]]:
    """Projects with waiting hints, and what tells whether others have come meanwhile."""
    newest = func.max(Hint.id), func.max(Hint.created_at)
    with store.read() as session:
        rows = session.execute(select(Hint.project_id, *newest).group_by(Hint.project_id))
        return {project_id: (number, at) for project_id, number, at in rows}
