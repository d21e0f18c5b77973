"""The champion's predictions → Label Studio, and Label Studio's order → the champion's.

The head of the queue goes first, then Label Studio is told to go by the new order, then the rest
follows: the next image that anybody is given comes from the new order although most of the pool is
still on its way. To Label Studio each order is a version of predictions, and it serves only tasks
that carry one of the version it goes by. So the old order holds until the head is there, and
nothing is ever deleted.

What was pushed is written down after Label Studio confirmed it. A trainer killed between the two
asks Label Studio what it holds before it pushes again; one that fell silent and wakes up sends no
further request, since it asks for its lease before each.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from backend import clock
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.offers import begin_sending, finish_sending, recover_sending
from backend.orders import newest_order, places_of
from backend.predictions import Prediction
from backend.push_plan import PushPlan
from backend.store import Store
from backend.tables import Project, Serving, Task, order_name

log = logging.getLogger(__name__)

SAMPLING = "Uncertainty sampling"
AT_ONCE = 20_000
"""Predictions in one request; more of them would be minutes without any sign of progress."""
A_FEW = 2_000
"""Predictions in one request where requests are quick, so that new labels need not wait long."""
REPLACED_AT_ONCE = 500
"""Predictions in one request where some take the place of others, which are deleted one by one."""
QUICK_SECONDS = 1.0
"""A head that takes longer tells of a Label Studio that recounts the project after each request."""


class Pace:
    """Whether the head of the queue is worth a request of its own.

    Label Studio recounts the whole project after every import unless its fast import is switched
    on, and then a few predictions take as long as all of them. So the two parts of a push are
    timed, and the head goes first only while that more than halves the wait. From time to time it
    is tried again, since a slow moment is not a slow server.
    """

    TRY_AGAIN_AFTER = 20

    def __init__(self) -> None:
        self._whole_pushes_left: dict[int, int] = {}

    def head_first(self, project_id: int) -> bool:
        """Whether to send the head before the rest."""
        left = self._whole_pushes_left.get(project_id, 0)
        self._whole_pushes_left[project_id] = max(0, left - 1)
        return left == 0

    def record(self, project_id: int, head_seconds: float, rest_seconds: float) -> None:
        """Remember how long the two parts of a push took."""
        if head_seconds > rest_seconds / 2:
            self._whole_pushes_left[project_id] = self.TRY_AGAIN_AFTER


@dataclass(frozen=True)
class Pushing:
    """What a push works with. ``say`` is told what is being done; ``hurried`` whether something
    waits that should come before the rest of the queue."""

    store: Store
    client: LabelStudio
    leases: Leases
    pace: Pace
    say: Callable[[str], None]
    hurried: Callable[[], bool] = lambda: False


def push(tools: Pushing, project_id: int, plan: PushPlan, head: int) -> None:
    """Send a plan to Label Studio and make Label Studio go by its order; ``head`` is how many
    predictions may go before all others.

    It ends early, between two requests, when something else waits or when another version was
    promoted by hand. What was sent is written down, so the next plan holds what is left.
    """
    with tools.store.read() as session:
        served = session.get_one(Project, project_id).served
    new_order = served != plan.name and len(plan) > head
    first = head if new_order and tools.pace.head_first(project_id) else 0
    seconds = _send(tools, project_id, plan, 0, first) if first else 0.0
    if seconds is None:
        return
    size = A_FEW if first and seconds < QUICK_SECONDS else AT_ONCE
    size = min(size, REPLACED_AT_ONCE) if plan.replaced else size
    rest = 0.0
    for start in range(first, len(plan), size):
        if start > 0 and size < AT_ONCE and tools.hurried():
            return
        taken = _send(tools, project_id, plan, start, start + size)
        if taken is None:
            return
        rest += taken
    if first:
        tools.pace.record(project_id, seconds, rest)


def _send(tools: Pushing, project_id: int, plan: PushPlan, start: int, stop: int) -> float | None:
    """Send the predictions from one place to another, and go by their order; the seconds that it
    took. None once another version was promoted by hand."""
    began = time.monotonic()
    with tools.store.read() as session:
        part = plan.part(session, start, stop)
    tools.say(f"sending {len(part)} predictions of {plan.name}")
    if part and not _push_part(tools, project_id, plan, part):
        return None
    order = (plan.version, plan.order)
    serve_order(tools.store, tools.client, tools.leases, project_id, order)
    return time.monotonic() - began


def serve_order(
    store: Store, client: LabelStudio, leases: Leases, project_id: int, order: tuple[int, int]
) -> None:
    """Make Label Studio go by an order of a version, unless it was already told to."""
    name, (version, number) = order_name(*order), order
    with store.read() as session:
        if session.get_one(Project, project_id).served == name:
            return
    with store.write() as session:
        leases.check(session, project_id)
        told = {"version": version, "number": number, "begun_at": clock.now()}
        serving = Serving(project_id=project_id, **told)
        session.add(serving)
    leases.ensure(project_id)
    client.update_project(project_id, model_version=name, sampling=SAMPLING)
    with store.write() as session:
        leases.check(session, project_id)
        session.get_one(Project, project_id).served = name
        session.get_one(Serving, serving.id).served_at = clock.now()
    log.info("project %d: Label Studio now orders by %s", project_id, name)


def recover_push(
    store: Store, client: LabelStudio, leases: Leases, project_id: int, version: int
) -> None:
    """After a push that was not seen to end, or a promotion by hand: write down what Label Studio
    really holds of the last order of a version, and what it does not: a prediction that was to be
    replaced may be deleted, and its successor never have come."""
    with store.read() as session:
        order = newest_order(session, project_id, version)
    name, number = (order.name, order.number) if order else (order_name(version, 0), 0)
    held, places = client.tasks_with_version(project_id, name), places_of(order)
    with store.write() as session:
        leases.check(session, project_id)
        known, claimed = _written_down(session, project_id, (version, number))
        rows = [
            _carrying(project_id, task_id, version, number, places.get(task_id))
            for task_id in (held & known) - claimed
        ] + [_carrying(project_id, task_id, None, None, None) for task_id in claimed - held]
        if rows:
            session.execute(update(Task), rows)
        recover_sending(session, project_id, version, number, held)
        _settle(session, project_id, version)
    log.info("project %d: %d tasks already carry %s", project_id, len(held), name)


def _push_part(
    tools: Pushing, project_id: int, plan: PushPlan, part: Sequence[tuple[int, Prediction]]
) -> bool:
    """Whether the plan still holds: false once another version was promoted by hand."""
    store, client, leases = tools.store, tools.client, tools.leases
    with store.write() as session:
        leases.check(session, project_id)
        project = session.get_one(Project, project_id, with_for_update=True)
        if project.pushing or project.champion != plan.version:
            return False
        project.pushing = True
        order = (project_id, plan.version, plan.order)
        sent = begin_sending(session, order, part, plan.answerer.withholding.blind_share)
    for task_id, _ in part:
        if task_id in plan.replaced:
            leases.ensure(project_id)
            client.delete_predictions(task_id, plan.name)
    created = client.import_predictions(
        project_id,
        [
            {
                "task": task_id,
                "model_version": plan.name,
                "score": prediction.score,
                "result": prediction.result,
            }
            for task_id, prediction in part
        ],
        lambda: leases.ensure(project_id),
    )
    if created < len(part):
        log.warning(
            "project %d: Label Studio kept %d of %d predictions", project_id, created, len(part)
        )
    with store.write() as session:
        leases.check(session, project_id)
        session.execute(
            update(Task),
            [
                {
                    "project_id": project_id,
                    "id": task_id,
                    "pushed_version": plan.version,
                    "pushed_order": plan.order,
                    "pushed_score": prediction.score,
                }
                for task_id, prediction in part
            ],
        )
        finish_sending(session, sent)
        return _settle(session, project_id, plan.version)


def _settle(session: Session, project_id: int, version: int) -> bool:
    """What Label Studio holds of a version is written down. False, and it is asked once more, when
    another version serves by now: what it holds of that one is not known."""
    project = session.get_one(Project, project_id, with_for_update=True)
    project.pushing = project.champion != version
    return not project.pushing


def _written_down(
    session: Session, project_id: int, pushed: tuple[int, int]
) -> tuple[set[int], set[int]]:
    """The tasks of a project, and those of them whose rows say that they carry this order of this
    version."""
    rows = session.execute(
        select(Task.id, Task.pushed_version, Task.pushed_order).where(Task.project_id == project_id)
    ).all()
    known = {task_id for task_id, *_ in rows}
    return known, {task_id for task_id, *before in rows if tuple(before) == pushed}


def _carrying(
    project_id: int, task_id: int, version: int | None, order: int | None, score: float | None
) -> dict[str, int | float | None]:
    return {
        "project_id": project_id,
        "id": task_id,
        "pushed_version": version,
        "pushed_order": order,
        "pushed_score": score,
    }
