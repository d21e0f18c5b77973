"""The champion's predictions → Label Studio, and Label Studio's order → the champion's.

The head of the queue goes first, then Label Studio is told to order by the new version, then the
rest follows: the next image that anybody is given comes from the new order although most of the
pool is still on its way. Label Studio serves only tasks that carry a prediction of the version it
orders by, so the old order holds until the head is there, and nothing is ever deleted.

What was pushed is written down after Label Studio confirmed it. A trainer killed between the two
asks Label Studio what it holds before it pushes again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from backend.groups import known_images
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.predictions import (
    Prediction,
    missing_image_prediction,
    predict_tasks,
    unlearned_prediction,
)
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of
from backend.tables import ImageSource, Project, Task, TaskImage, version_name
from model.artifact import Artifact
from model.queue import LAST_SCORE

log = logging.getLogger(__name__)

SAMPLING = "Uncertainty sampling"
ENOUGH_TO_PUSH = 500
"""While images are still being embedded, predictions are pushed when this many wait."""
SQL_SLICE = 500


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
class PushPlan:
    """Predictions that Label Studio lacks, soonest first.

    ``unscored`` more tasks wait for an embedding. Those in ``replaced`` carry a prediction of the
    same version that is no longer right: their image was mended, or turned out to be broken.
    """

    number: int
    predictions: list[tuple[int, Prediction]]
    unscored: int
    replaced: frozenset[int] = frozenset()

    @property
    def version(self) -> str:
        """Name of the version in Label Studio."""
        return version_name(self.number)


def plan_push(
    session: Session, project: Project, artifact: Artifact | None, settings: Settings
) -> PushPlan:
    """What must be pushed so that every unlabelled task carries the champion's prediction."""
    number = artifact.version if artifact else 0
    rows = session.execute(
        select(Task.id, Task.pushed_version, Task.pushed_score).where(
            Task.project_id == project.id, ~Task.is_labeled
        )
    ).all()
    lacking = {task_id for task_id, version, _ in rows if version != number}
    # Where a killed push was not seen to end, the score that Label Studio holds is not known.
    held = {t: score for t, version, score in rows if version == number and score is not None}
    last = {t for t, score in held.items() if score == LAST_SCORE}
    if artifact is None:
        broken = _without_image(session, project.id)
        wrong = {t for t in held if (t in broken) != (t in last)}
        found = _unlearned(project.id, lacking | wrong, broken, settings.seed)
    elif lacking or last:
        found = _score(session, project, artifact, settings, lacking | last)
        for task_id in _without_image(session, project.id) & lacking - found.keys():
            found[task_id] = missing_image_prediction()
        wrong = {t for t in last & found.keys() if found[t].score != LAST_SCORE}
    else:
        found, wrong = {}, set()
    ready = [(t, p) for t, p in found.items() if t in lacking or t in wrong]
    ready.sort(key=lambda item: (item[1].score, item[0]))
    return PushPlan(number, ready, len(lacking - found.keys()), frozenset(wrong))


def push(
    store: Store,
    client: LabelStudio,
    leases: Leases,
    settings: Settings,
    project_id: int,
    plan: PushPlan,
    pace: Pace,
    say: Callable[[str], None],
) -> None:
    """Send a plan to Label Studio and make Label Studio order by it."""
    with store.read() as session:
        served = session.get_one(Project, project_id).served
    head, rest = plan.predictions, list[tuple[int, Prediction]]()
    new_order = served != plan.version and len(head) > settings.queue_head
    if new_order and pace.head_first(project_id):
        head, rest = head[: settings.queue_head], head[settings.queue_head :]
    seconds = []
    for part in filter(None, (head, rest)):
        say(f"sending {len(part)} predictions of {plan.version}")
        started = time.monotonic()
        if not _push_part(store, client, leases, project_id, plan, part):
            return
        seconds.append(time.monotonic() - started)
        serve_version(store, client, project_id, plan.version)
    if rest:
        pace.record(project_id, *seconds)


def serve_version(store: Store, client: LabelStudio, project_id: int, version: str) -> None:
    """Make Label Studio order by a version, unless it was already told to."""
    with store.read() as session:
        if session.get_one(Project, project_id).served == version:
            return
    client.update_project(project_id, model_version=version, sampling=SAMPLING)
    with store.write() as session:
        session.get_one(Project, project_id).served = version
    log.info("project %d: Label Studio now orders by %s", project_id, version)


def recover_push(store: Store, client: LabelStudio, project_id: int, version: str) -> None:
    """After a push that was not seen to end, or a promotion by hand: write down what Label Studio
    really holds of a version."""
    held = client.tasks_with_version(project_id, version)
    number = int(version.removeprefix("v"))
    with store.write() as session:
        for ids in _slices(sorted(held)):
            session.execute(
                update(Task)
                .where(Task.project_id == project_id, Task.id.in_(ids))
                .values(pushed_version=number)
            )
        _settle(session, project_id, number)
    log.info("project %d: %d tasks already carry %s", project_id, len(held), version)


def _push_part(
    store: Store,
    client: LabelStudio,
    leases: Leases,
    project_id: int,
    plan: PushPlan,
    part: Sequence[tuple[int, Prediction]],
) -> bool:
    """Whether the plan still holds: false once another version was promoted by hand."""
    with store.write() as session:
        leases.check(session, project_id)
        project = session.get_one(Project, project_id, with_for_update=True)
        if project.pushing or project.champion != plan.number:
            return False
        project.pushing = True
    for task_id, _ in part:
        if task_id in plan.replaced:
            client.delete_predictions(task_id, plan.version)
    created = client.import_predictions(
        project_id,
        [
            {
                "task": task_id,
                "model_version": plan.version,
                "score": prediction.score,
                "result": prediction.result,
            }
            for task_id, prediction in part
        ],
    )
    if created < len(part):
        log.warning(
            "project %d: Label Studio kept %d of %d predictions", project_id, created, len(part)
        )
    with store.write() as session:
        session.execute(
            update(Task),
            [
                {
                    "project_id": project_id,
                    "id": task_id,
                    "pushed_version": plan.number,
                    "pushed_score": prediction.score,
                }
                for task_id, prediction in part
            ],
        )
        return _settle(session, project_id, plan.number)


def _settle(session: Session, project_id: int, number: int) -> bool:
    """What Label Studio holds of a version is written down. False, and it is asked once more, when
    another version serves by now: what it holds of that one is not known."""
    project = session.get_one(Project, project_id, with_for_update=True)
    project.pushing = project.champion != number
    return not project.pushing


def _unlearned(
    project_id: int, task_ids: set[int], broken: set[int], seed: int
) -> dict[int, Prediction]:
    """Places in a fixed random order; what has no image comes last."""
    return {
        task_id: missing_image_prediction()
        if task_id in broken
        else unlearned_prediction(project_id, task_id, seed)
        for task_id in task_ids
    }


def _score(
    session: Session, project: Project, artifact: Artifact, settings: Settings, wanted: set[int]
) -> dict[int, Prediction]:
    controls = controls_of(project)
    unlabelled = select(Task.id).where(Task.project_id == project.id, ~Task.is_labeled)
    embeddings = {}
    for data_key in {control.data_key for control in controls}:
        images = known_images(
            session, project.id, data_key, artifact.backbone, TaskImage.task_id.in_(unlabelled)
        )
        rows = [i for i, task_id in enumerate(images.task_ids) if int(task_id) in wanted]
        embeddings[data_key] = (images.task_ids[rows], images.embeddings[rows])
    return predict_tasks(artifact, controls, embeddings, settings.strategy)


def _without_image(session: Session, project_id: int) -> set[int]:
    """Tasks that have no image at all, or only images that cannot be had."""
    pending_or_ready = (
        select(TaskImage.task_id)
        .outerjoin(ImageSource, ImageSource.source == TaskImage.source)
        .where(
            TaskImage.project_id == project_id,
            ImageSource.source.is_(None)
            | ImageSource.digest.is_not(None)
            | (ImageSource.failure == ""),
        )
    )
    return set(
        session.scalars(
            select(Task.id).where(Task.project_id == project_id, Task.id.not_in(pending_or_ready))
        )
    )


def _slices(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + SQL_SLICE] for start in range(0, len(ids), SQL_SLICE)]
