"""The orders of the queue: what each is called, and which place a task has in it.

A version has one order or several, one after the other. An order is written down when it is made,
before anything of it is sent, with the place of every task that is then in the queue. So a trainer
that was killed sends the rest with the places that the first part was sent with, `/predict` answers
the same, and an older version that serves again goes on with the order that it had. A task that
comes later gets its place from the order's scales (:class:`model.queue.Line`), without moving
anybody; so does one of an order of which no places are kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.orm import Session

from backend.batches import SQL_SLICE
from backend.tables import ImageGroup, ImageSource, Order, Project, Task, TaskImage, order_name
from model.audit import audit_place, in_audit
from model.queue import LAST_SCORE, back_score, late_score
from model.uncertainty import STRATEGIES

RANDOM = "random"
# Made once: `/predict` asks it about every task that has no place yet.
_MEMBERS = (
    select(ImageGroup.leader, Task.id, Task.annotations, Task.pushed_version, Task.pushed_order)
    .join(ImageSource, ImageSource.digest == ImageGroup.digest)
    .join(TaskImage, TaskImage.source == ImageSource.source)
    .join(Task, (Task.project_id == TaskImage.project_id) & (Task.id == TaskImage.task_id))
    .where(
        ImageGroup.project_id == bindparam("project"),
        TaskImage.project_id == bindparam("project"),
        ImageGroup.leader.in_(bindparam("leaders", expanding=True)),
    )
)


def newest_order(session: Session, project_id: int, version: int) -> Order | None:
    """The last order of a version; v0 stands for what serves while nothing is learned."""
    query = select(Order).where(Order.project_id == project_id, Order.version == version)
    return session.scalars(query.order_by(Order.number.desc()).limit(1)).first()


def wanted_name(session: Session, project: Project) -> str:
    """Name of the order that Label Studio should go by."""
    number = select(func.max(Order.number)).where(
        Order.project_id == project.id, Order.version == project.champion
    )
    return order_name(project.champion, session.scalar(number) or 0)


def version_of(name: str) -> int | None:
    """The version whose order is called so; None for what is no order's name."""
    found = re.fullmatch(r"v(0|[1-9][0-9]{0,8})(\.[1-9][0-9]{0,8})?", name)
    return int(found[1]) if found else None


def wanted_strategy(project: Project, strategy: str) -> str:
    """What picks: the strategy of the settings, or chance where choosing does not pay."""
    return strategy if project.choosing else RANDOM


def measure_of(strategy: str) -> str:
    """The uncertainty that orders the rest behind the picks of a strategy."""
    return strategy if strategy in STRATEGIES else "margin"


def pack_places(task_ids: ArrayLike, scores: ArrayLike) -> bytes:
    """Places by task as bytes: all (n,) numbers of tasks, ascending, as int64, then the (n,) places
    as float64."""
    ids = np.asarray(task_ids, dtype="<i8")
    return ids.tobytes() + np.asarray(scores, dtype="<f8").tobytes()


class Places(Mapping[int, float]):
    """Places by task, read from what :func:`pack_places` made."""

    def __init__(self, packed: bytes) -> None:
        count = len(packed) // 16
        self._ids = np.frombuffer(packed, dtype="<i8", count=count)
        self._scores = np.frombuffer(packed, dtype="<f8", offset=8 * count)

    def __getitem__(self, task_id: int) -> float:
        position = int(np.searchsorted(self._ids, task_id))
        if position < len(self._ids) and self._ids[position] == task_id:
            return float(self._scores[position])
        raise KeyError(task_id)

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        return len(self._ids)

    def at(self, task_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) places of n tasks, NaN for those that have none."""
        found = np.full(len(task_ids), np.nan)
        there = np.isin(task_ids, self._ids)
        found[there] = self._scores[np.searchsorted(self._ids, task_ids[there])]
        return found


def places_of(order: Order | None) -> Places:
    """Task → its place in [0, 0.999], for the tasks that were in the queue when it was made."""
    return Places(order.places if order else b"")


@dataclass(frozen=True)
class Latecomer:
    """A task that an order has no place for yet.

    ``own`` is its own score in [0, 0.999]; ``audit`` the leader of its image's group, where that
    is in the audit set; a ``twin`` shows only near-duplicates of
    what other tasks show.
    """

    own: float
    audit: str | None = None
    twin: bool = False


def late_place(order: Order | None, late: Latecomer) -> float:
    """Where a latecomer stands; without any order by its own score."""
    if late.own == LAST_SCORE:
        return LAST_SCORE
    if late.twin:
        return back_score(late.own)
    scales = order.scale if order else {}
    if late.audit is not None:
        return late_score(audit_place(late.audit), scales.get("audit", []))
    return late_score(late.own, scales.get("queue", []))


def place_tasks(
    session: Session | Connection,
    project_id: int,
    order: Order | None,
    own: Mapping[int, float],
    groups: Mapping[int, Sequence[str]],
    audit_share: float,
) -> dict[int, float]:
    """Task → its place in an order; ``own`` are the own scores, ``groups`` those of the images."""
    places = places_of(order)
    found = {task_id: places[task_id] for task_id in own if task_id in places}
    late = {task_id: groups.get(task_id, ()) for task_id in own if task_id not in found}
    twins = late_twins(session, project_id, order, late, places)
    for task_id, leaders in late.items():
        audit = next((leader for leader in leaders if in_audit(leader, audit_share)), None)
        found[task_id] = late_place(order, Latecomer(own[task_id], audit, task_id in twins))
    return found


def late_twins(
    session: Session | Connection,
    project_id: int,
    order: Order | None,
    groups: Mapping[int, Collection[str]],
    places: Collection[int],
) -> set[int]:
    """Which latecomers show nothing but near-duplicates of what other tasks show.

    ``groups`` are those of the images of each latecomer; ``places`` the tasks that have theirs.
    Others are those that are labelled, that have their place or a prediction of the order, or that
    have a lower number.
    """
    if not groups:
        return set()
    leaders = sorted({leader for found in groups.values() for leader in found})
    current = (order.version, order.number) if order else None
    members: dict[str, list[tuple[int, bool]]] = {}
    for start in range(0, len(leaders), SQL_SLICE):
        given = {"project": project_id, "leaders": leaders[start : start + SQL_SLICE]}
        rows = session.execute(_MEMBERS, given)
        for leader, task_id, done, *pushed in rows:
            ahead = done > 0 or task_id in places or tuple(pushed) == current
            members.setdefault(leader, []).append((task_id, ahead))

    def has_one_before(task_id: int, leader: str) -> bool:
        return any(
            other != task_id and (ahead or other < task_id)
            for other, ahead in members.get(leader, ())
        )

    return {
        task_id
        for task_id, found in groups.items()
        if found and all(has_one_before(task_id, leader) for leader in found)
    }
