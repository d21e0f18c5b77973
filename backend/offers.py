"""What the predictions in Label Studio tick or withhold, written down as they are sent.

What was sent together is one row: the tasks, and of each which of the different offers is its own,
twelve bytes a task. A row is begun before Label Studio hears of its predictions and finished when
it has them, so what a killed trainer may have sent is known to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from backend import clock
from backend.groups import groups_of_tasks
from backend.label_config import Control
from backend.predictions import Offer, Prediction
from backend.tables import Order, SentPart
from backend.withholding import BLIND, TICKED, Withholding

KEPT_SECONDS = 86_400.0
"""For so long it is known what an order ticked that another of its version has replaced."""

Offers = Mapping[str, Offer]
Ints = NDArray[np.int64]


class PartReader:
    """One row of :class:`SentPart`, to look tasks up in."""

    def __init__(self, row: SentPart) -> None:
        count = len(row.tasks) // 12
        self.row = row
        self.task_ids: Ints = np.frombuffer(row.tasks, dtype="<i8", count=count).astype(np.int64)
        self.positions = np.frombuffer(row.tasks, dtype="<i4", offset=8 * count)
        self._offers: list[Offers] = [
            {control: Offer(state, tuple(choices)) for control, (state, choices) in each.items()}
            for each in row.offers
        ]

    def get(self, task_id: int) -> Offers | None:
        """What it offers for a task; None where it says nothing of it."""
        at = int(np.searchsorted(self.task_ids, task_id))
        if at == len(self.task_ids) or self.task_ids[at] != task_id:
            return None
        offers: Offers = self._offers[int(self.positions[at])]
        return offers

    def keep(self, task_ids: Collection[int]) -> None:
        """Forget all other tasks."""
        kept = np.isin(self.task_ids, list(task_ids))
        self.row.tasks = _packed(self.task_ids[kept], self.positions[kept])


def begin_sending(
    session: Session,
    order: tuple[int, int, int],
    part: Iterable[tuple[int, Prediction]],
    blind_share: float,
) -> SentPart | None:
    """Write down what is about to be sent of an order: its project, version and number. None where
    there is nothing to tick or to withhold."""
    numbered: dict[str, int] = {}
    found = []
    for task_id, prediction in part:
        if prediction.offers:
            offers = {name: [o.state, list(o.choices)] for name, o in prediction.offers.items()}
            said = json.dumps(offers, sort_keys=True)
            found.append((task_id, numbered.setdefault(said, len(numbered))))
    if not found:
        return None
    task_ids, positions = np.array(sorted(found), dtype=np.int64).T
    project_id, version, number = order
    row = SentPart(
        project_id=project_id,
        version=version,
        number=number,
        blind_share=blind_share,
        begun_at=clock.now(),
        offers=[json.loads(said) for said in numbered],
        tasks=_packed(task_ids, positions),
    )
    session.add(row)
    return row


def finish_sending(session: Session, row: SentPart | None) -> None:
    """Label Studio has them."""
    if row is not None:
        session.execute(update(SentPart).where(SentPart.id == row.id).values(sent_at=clock.now()))


def recover_sending(
    session: Session, project_id: int, version: int, number: int, held: Collection[int]
) -> None:
    """After a push that was not seen to end: of the tasks that ``held`` a prediction of the order
    those are as sent that had none before; of others it stays unknown."""
    parts = read_parts(session, project_id, version, number)
    done = {int(task) for part in parts if part.row.sent_at is not None for task in part.task_ids}
    for part in parts:
        sure = (set(part.task_ids.tolist()) & set(held)) - done
        if part.row.sent_at is None and sure:
            row = part.row
            more = SentPart(**{name: getattr(row, name) for name in _COPIED}, sent_at=clock.now())
            session.add(more)
            PartReader(more).keep(sure)
            part.keep(set(part.task_ids.tolist()) - sure)


_COPIED = ("project_id", "version", "number", "blind_share", "begun_at", "offers", "tasks")


def read_parts(session: Session, project_id: int, version: int, number: int) -> list[PartReader]:
    """What was sent of an order, the first first."""
    rows = session.scalars(select(SentPart).where(*_of(project_id, version, number)))
    return [PartReader(row) for row in sorted(rows, key=lambda row: row.id)]


def turned_tasks(
    session: Session,
    order: Order,
    held: Ints,
    controls: Sequence[Control],
    withholding: Withholding,
) -> Ints:
    """(m,) those of the tasks, which hold a prediction of the order, whose choice is ticked and
    should not be, or the other way round. Few statements while the share is the one of before."""
    if is_settled(session, order, withholding.blind_share):
        return np.zeros(0, dtype=np.int64)
    offers: dict[int, Offers] = {}
    waiting = set(held.tolist())
    for part in read_parts(session, order.project_id, order.version, order.number):
        if part.row.sent_at is not None:
            for task_id in waiting.intersection(part.task_ids.tolist()):
                offers[task_id] = part.get(task_id) or {}
    keys = {control.name: control.data_key for control in controls}
    groups = groups_of_tasks(session, order.project_id, sorted(offers))

    def turns(task_id: int, control: str, offer: Offer) -> bool:
        leader = groups.get(task_id, {}).get(keys.get(control, ""))
        if leader is None or not offer.choices:
            return False
        return {offer.state, withholding.state(leader)} == {TICKED, BLIND}

    found = [
        task_id
        for task_id, by_control in offers.items()
        if any(turns(task_id, control, offer) for control, offer in by_control.items())
    ]
    return np.array(sorted(found), dtype=np.int64)


def settle_share(session: Session, order: Order, blind_share: float) -> None:
    """What was sent of an order is by now as the share wants it."""
    here = _of(order.project_id, order.version, order.number)
    session.execute(update(SentPart).where(*here).values(blind_share=blind_share))


def is_settled(session: Session, order: Order, blind_share: float) -> bool:
    """Whether all that was sent of an order went by that share."""
    here = _of(order.project_id, order.version, order.number)
    other = select(SentPart.id).where(*here, SentPart.blind_share != blind_share)
    return session.scalar(other.limit(1)) is None


def forget_parts(session: Session, project_id: int, version: int, before: int) -> None:
    """Forget the orders of a version from before a number, but for those of the last day."""
    session.execute(
        delete(SentPart).where(
            SentPart.project_id == project_id,
            SentPart.version == version,
            SentPart.number < before,
            SentPart.begun_at < clock.now() - KEPT_SECONDS,
        )
    )


def _of(project_id: int, version: int, number: int) -> tuple[ColumnElement[bool], ...]:
    return (
        SentPart.project_id == project_id,
        SentPart.version == version,
        SentPart.number == number,
    )


def _packed(task_ids: NDArray[Any], positions: NDArray[Any]) -> bytes:
    """(n,) tasks, ascending, as int64, then the (n,) positions of their offers as int32."""
    return task_ids.astype("<i8").tobytes() + positions.astype("<i4").tobytes()
