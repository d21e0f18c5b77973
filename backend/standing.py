"""How a project's queue stands, and whether a new order is due.

An order is made for a version that has none yet; and anew for the same version when much more of
the pool is known, when its picks are used up, or when what it was made by has changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.groups import count_known, lacks_groups
from backend.orders import wanted_strategy
from backend.pool import lacks_embeddings
from backend.projects import newest_version
from backend.promises import promises_with_checks
from backend.settings import Settings
from backend.tables import Order, Project, Task
from backend.version_metrics import half_width
from model.audit import audit_pace

ENOUGH_AT_FIRST = 128
ENOUGH_KNOWN = 1_000
GROWN = 10.0
"""While images are embedded, a new order is made when this many times as many tasks are known."""
GROWN_AT_LAST = 1.5
"""The same when all are embedded."""
PACE_CHANGED = 1.5


@dataclass(frozen=True)
class Standing:
    """What decides whether an order is due.

    ``known`` tasks have a known image, ``waiting`` of them are in the queue; ``complete``: no image
    is still to be embedded or grouped; ``strategy``, ``audit_share`` and ``pace`` are those that
    an order would be made by now; ``promises`` are those that leave images to people as a check.
    """

    known: int
    waiting: int
    complete: bool
    strategy: str
    audit_share: float
    pace: float
    promises: tuple[int, ...] = ()


@dataclass(frozen=True)
class Counts:
    """Tasks with a known image, those of them in the queue, and whether no image is still to be
    embedded or grouped."""

    known: int
    waiting: int
    complete: bool


def count(session: Session, project_id: int, backbone: str) -> Counts:
    """Count them; ``backbone`` is the network whose embeddings are read."""
    known, waiting = count_known(session, project_id, backbone)
    return Counts(known, waiting, is_complete(session, project_id, backbone))


def standing(session: Session, project: Project, settings: Settings, counts: Counts) -> Standing:
    """How a project stands."""
    newest = newest_version(session, project.id)
    width = half_width(newest.metrics) if newest else None
    return Standing(
        counts.known,
        counts.waiting,
        counts.complete,
        wanted_strategy(project, settings.strategy),
        settings.audit_share,
        audit_pace(width, settings.audit_share, settings.audit_half_width),
        promises_with_checks(session, project.id),
    )


def is_complete(session: Session, project_id: int, backbone: str) -> bool:
    """Whether no image is still to be embedded or grouped."""
    if lacks_embeddings(session, project_id, backbone):
        return False
    return not lacks_groups(session, project_id)


def why_due(session: Session, version: int, order: Order | None, now: Standing) -> str:
    """Why a version whose last order is ``order`` needs another, in words; empty when it does not.

    A new version waits until enough is known to pick from, and the order before it serves.
    """
    if order is None and not version:
        return "nothing is learned yet"
    if order is None:
        return "a new version" if now.complete or now.waiting >= ENOUGH_AT_FIRST else ""
    if _has_grown(order.known, now):
        return f"{now.known} tasks are known, {order.known} before"
    if not order.known:
        return ""
    if order.strategy != now.strategy:
        return f"{now.strategy} picks, {order.strategy} before"
    if order.audit_share != now.audit_share or _differs(order.pace, now.pace):
        return "the share of the audit set has changed"
    placed = {int(run) for [run] in (order.scale or {}).get("promises", ())}
    if not placed.issuperset(now.promises):
        return "a promise leaves images to people as a check"
    if order.picks and not _some_wait(session, order):
        return "its picks are used up"
    return ""


def _has_grown(before: int, now: Standing) -> bool:
    if now.complete:
        return now.known > before and now.known >= GROWN_AT_LAST * before
    return now.known >= max(ENOUGH_KNOWN, GROWN * before)


def _differs(before: float, now: float) -> bool:
    return max(before, now) > PACE_CHANGED * min(before, now)


def _some_wait(session: Session, order: Order) -> bool:
    """Whether a picked task is still in the queue, and nobody has skipped it."""
    waiting = select(Task.id).where(
        Task.project_id == order.project_id,
        Task.id.in_(order.picks),
        ~Task.is_labeled,
        Task.skips == 0,
    )
    return session.scalar(waiting.limit(1)) is not None
