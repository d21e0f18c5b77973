"""What Label Studio lacks of an order: the predictions to push, each with its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.groups import groups_of_tasks, known_images
from backend.orders import RANDOM, measure_of, place_tasks
from backend.pool import broken_tasks
from backend.predictions import (
    Prediction,
    missing_image_prediction,
    predict_tasks,
    unlearned_prediction,
)
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import Order, Project, Task, TaskImage, order_name
from model.artifact import Artifact
from model.queue import LAST_SCORE

MOST_NAMED = 500
"""More tasks than these are not named one by one in a query."""


@dataclass(frozen=True)
class PushPlan:
    """Predictions that Label Studio lacks of an order of a version, soonest first.

    Tasks in ``replaced`` carry a prediction of the same order that is no longer right: their image
    was mended, or turned out to be broken.
    """

    version: int
    order: int
    predictions: list[tuple[int, Prediction]]
    replaced: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """What Label Studio calls the order."""
        return order_name(self.version, self.order)


def plan_push(
    session: Session, project: Project, artifact: Artifact | None, order: Order, settings: Settings
) -> PushPlan:
    """What must be pushed so that every unlabelled task has its place in an order."""
    columns = (Task.id, Task.pushed_version, Task.pushed_order, Task.pushed_score)
    rows = session.execute(select(*columns).where(Task.project_id == project.id, ~Task.is_labeled))
    # Where a killed push was not seen to end, the score that Label Studio holds may not be known.
    held, lacking = dict[int, float | None](), set[int]()
    for task_id, version, number, score in rows:
        if (version, number) == (order.version, order.number):
            held[task_id] = score
        else:
            lacking.add(task_id)
    broken = broken_tasks(session, project.id)
    last = {t for t, score in held.items() if score == LAST_SCORE}
    spoilt = {t for t in held.keys() & broken if held[t] not in (None, LAST_SCORE)}
    asked = lacking | last | spoilt
    found = dict.fromkeys(asked & broken, missing_image_prediction())
    if asked - broken:
        found |= _predictions(session, project, artifact, order, settings, asked - broken)
    wrong = spoilt | {t for t in last & found.keys() if found[t].score != LAST_SCORE}
    ready = [(t, p) for t, p in found.items() if t in lacking or t in wrong]
    ready.sort(key=lambda item: (item[1].score, item[0]))
    return PushPlan(order.version, order.number, ready, frozenset(wrong))


def _predictions(
    session: Session,
    project: Project,
    artifact: Artifact | None,
    order: Order,
    settings: Settings,
    wanted: set[int],
) -> dict[int, Prediction]:
    """Predictions of tasks with their places in the order; none for those without an embedding."""
    said = (
        {t: unlearned_prediction(project.id, t, settings.seed) for t in wanted}
        if artifact is None
        else _said(session, project, artifact, order, settings, wanted)
    )
    own = {
        task_id: prediction.score
        if order.strategy != RANDOM
        else unlearned_prediction(project.id, task_id, settings.seed).score
        for task_id, prediction in said.items()
    }
    groups = {
        task_id: list(by_key.values())
        for task_id, by_key in groups_of_tasks(session, project.id, sorted(said)).items()
    }
    places = place_tasks(session, project.id, order, own, groups, settings.audit_share)
    return {t: Prediction(places[t], prediction.result) for t, prediction in said.items()}


def _said(
    session: Session,
    project: Project,
    artifact: Artifact,
    order: Order,
    settings: Settings,
    wanted: set[int],
) -> dict[int, Prediction]:
    controls = controls_of(project)
    chosen = TaskImage.task_id.in_(sorted(wanted))
    if len(wanted) > MOST_NAMED:
        unlabelled = select(Task.id).where(Task.project_id == project.id, ~Task.is_labeled)
        chosen = TaskImage.task_id.in_(unlabelled)
    embeddings, unticked = {}, {}
    for data_key in {control.data_key for control in controls}:
        images = known_images(session, project.id, data_key, artifact.backbone, chosen)
        rows = np.flatnonzero(np.isin(images.task_ids, list(wanted)))
        embeddings[data_key] = (images.task_ids[rows], images.embeddings[rows])
        unticked[data_key] = set(images.task_ids[images.in_audit(settings.audit_share)].tolist())
    measure = measure_of(order.strategy)
    return predict_tasks(artifact, controls, embeddings, measure, unticked)
