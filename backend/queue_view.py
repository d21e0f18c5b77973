"""The next images in the queue, what the model says of each, and why it stands there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.groups import groups_of_tasks, known_images
from backend.label_config import Control
from backend.orders import RANDOM, newest_order, places_of
from backend.predictions import current_classes, head_of
from backend.sync import controls_of
from backend.tables import ImageSource, Order, Project, Task, TaskImage
from backend.withholding import AUDIT, BLIND, CHECK, TICKED, Withholding
from model.artifact import Artifact
from model.queue import LAST_SCORE, back_score

MEASURES = "audit image: it measures the model, so what the model says is not shown"
UNSEEN = "blind image: it shows how far people follow a ticked choice, so none is shown"
BROKEN = "its image cannot be had"
SKIPPED = "somebody skipped it"
TWIN = "at the back: nearly the same as an image before it"
UNCERTAIN = "the model is unsure of it"
CHECKS = "check of a promise: it shows whether automatic labels are right, so none is shown"
WITHHELD = {AUDIT: MEASURES, CHECK: CHECKS, BLIND: UNSEEN}
BY_CHANCE = "drawn by chance"
UNLEARNED = "drawn by chance: nothing is learned yet"
LATE = "new: it was not known yet when this order was made"


@dataclass(frozen=True)
class Waiting:
    """A task in the queue.

    ``place``    1 for the next one
    ``digest``   SHA-256 of its first image; None where that is not known
    ``likely``   for each control that is learned its name and the two likeliest classes with their
                 probabilities; empty for audit images and blind ones, which people judge for
                 themselves
    ``why``      why it stands there
    """

    place: int
    task: int
    digest: str | None
    likely: list[tuple[str, list[tuple[str, float]]]]
    why: str


def next_in_queue(
    session: Session,
    project: Project,
    artifact: Artifact | None,
    withholding: Withholding,
    most: int,
) -> list[Waiting]:
    """The first ``most`` tasks of the order that Label Studio has or gets next, in its order."""
    order = newest_order(session, project.id, artifact.version if artifact else 0)
    scores = _scores(session, project.id, order)
    tasks = sorted(scores, key=lambda task: (scores[task], task))[:most]
    rows = session.scalars(select(Task).where(Task.project_id == project.id, Task.id.in_(tasks)))
    known = {row.id: row for row in rows}
    groups = groups_of_tasks(session, project.id, tasks)
    controls = controls_of(project)
    states = {
        task: {withholding.state(leader, task) for leader in leaders.values()}
        for task, leaders in groups.items()
    }
    withheld = {
        task: next(why for state, why in WITHHELD.items() if state in found)
        for task, found in states.items()
        if not found <= {TICKED}
    }
    shown = [task for task in tasks if task not in withheld]
    likely = _likely(session, project.id, artifact, controls, shown)
    digests = _digests(session, project.id, tasks)
    picks = {task: number for number, task in enumerate(order.picks if order else (), start=1)}
    placed = places_of(order)
    return [
        Waiting(
            place,
            task,
            digests.get(task),
            likely.get(task, []),
            _why(order, known[task], scores[task], picks.get(task), withheld.get(task, ""))
            or (UNCERTAIN if task in placed else LATE),
        )
        for place, task in enumerate(tasks, start=1)
    ]


def _scores(session: Session, project_id: int, order: Order | None) -> dict[int, float]:
    """Task → its score: what Label Studio holds of the order, or else its place in it."""
    columns = (Task.id, Task.pushed_version, Task.pushed_order, Task.pushed_score)
    rows = session.execute(select(*columns).where(Task.project_id == project_id, ~Task.is_labeled))
    places, current = places_of(order), (order.version, order.number) if order else None
    found = {}
    for task, version, number, score in rows:
        if score is not None and (version, number) == current:
            found[task] = score
        elif task in places:
            found[task] = places[task]
    return found


def _why(order: Order | None, task: Task, score: float, pick: int | None, withheld: str) -> str:
    """What stands out about a task; empty where it is only its own score."""
    reasons = (
        (score == LAST_SCORE, BROKEN),
        (task.skips > 0 and task.annotations == 0, SKIPPED),
        (score >= back_score(0.0), TWIN),
        (withheld != "", withheld),
        (order is not None and order.version == 0 and pick is None, UNLEARNED),
        (pick is not None and order is not None, _picked(order, pick)),
        (order is not None and order.strategy == RANDOM, BY_CHANCE),
    )
    return next((why for holds, why in reasons if holds), "")


def _picked(order: Order | None, pick: int | None) -> str:
    strategy = order.strategy if order else ""
    if strategy == RANDOM:
        return BY_CHANCE
    return f"picked by the strategy {strategy}, as number {pick}"


def _likely(
    session: Session,
    project_id: int,
    artifact: Artifact | None,
    controls: Sequence[Control],
    tasks: Sequence[int],
) -> dict[int, list[tuple[str, list[tuple[str, float]]]]]:
    found: dict[int, list[tuple[str, list[tuple[str, float]]]]] = {}
    for control in controls:
        head = head_of(artifact, control) if artifact else None
        if artifact is None or head is None:
            continue
        known = known_images(
            session,
            project_id,
            control.data_key,
            artifact.backbone,
            TaskImage.task_id.in_(tasks),
        )
        if not len(known.task_ids):
            continue
        classes, probabilities = current_classes(head, control, known.embeddings)
        for task, row in zip(known.task_ids.tolist(), probabilities, strict=True):
            found.setdefault(task, []).append((control.name, _two(classes, row)))
    return found


def _two(classes: Sequence[str], probabilities: Any) -> list[tuple[str, float]]:
    """The two likeliest classes, the likeliest first."""
    first = np.argsort(-probabilities, kind="stable")[:2]
    return [(classes[i], float(probabilities[i])) for i in first.tolist()]


def _digests(session: Session, project_id: int, tasks: Sequence[int]) -> Mapping[int, str]:
    """Task → the SHA-256 of its first image by data key, where it is known."""
    rows = session.execute(
        select(TaskImage.task_id, ImageSource.digest)
        .join(ImageSource, ImageSource.source == TaskImage.source)
        .where(
            TaskImage.project_id == project_id,
            TaskImage.task_id.in_(tasks),
            ImageSource.digest.is_not(None),
        )
        .order_by(TaskImage.data_key.desc())
    )
    return {task: digest for task, digest in rows if digest is not None}
