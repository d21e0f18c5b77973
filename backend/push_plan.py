"""What Label Studio lacks of an order: the tasks to push with their places, soonest first.

A plan knows the tasks and the places of all of them, and makes the predictions part by part: those
of a million tasks are never in memory together, and the head of the queue waits for no others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from backend.arrays import read_floats
from backend.broken_images import broken_tasks
from backend.groups import groups_of_tasks, known_images, known_task_ids
from backend.label_config import Control
from backend.offers import turned_tasks
from backend.orders import RANDOM, measure_of, place_tasks, places_of
from backend.predictions import (
    Embeddings,
    Prediction,
    answered,
    missing_image_prediction,
    own_scores,
    predict_tasks,
    say,
    unlearned_scores,
)
from backend.promises import check_tasks
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import Order, Project, Task, TaskImage, order_name
from backend.withholding import Withholding
from model.artifact import Artifact
from model.queue import LAST_SCORE

MOST_NAMED = 500
"""More tasks than these are not named one by one in a query."""
AT_ONCE = 20_000
"""Tasks whose embeddings are in memory at a time."""

Tasks = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answerer:
    """What the predictions of a plan are made with; ``artifact`` None stands for no version."""

    project_id: int
    artifact: Artifact | None
    controls: tuple[Control, ...]
    strategy: str
    withholding: Withholding

    @property
    def keys(self) -> set[str]:
        """The data keys of the images that the version says something about."""
        if self.artifact is None:
            return set()
        return {control.data_key for control in answered(self.artifact, self.controls)}

    def known(self, session: Session, asked: Tasks) -> Tasks:
        """Those of the tasks, ascending, that it can say something about."""
        if self.artifact is None:
            return asked
        named = [_named(asked)] if len(asked) <= MOST_NAMED else []
        found = [
            known_task_ids(session, self.project_id, key, self.artifact.backbone, *named)
            for key in sorted(self.keys)
        ]
        return np.intersect1d(asked, np.concatenate([np.zeros(0, dtype=np.int64), *found]))

    def own_scores(self, session: Session, asked: Tasks) -> tuple[Tasks, Scores]:
        """Known tasks, ascending, and the scores that are theirs by what the version says."""
        assert self.artifact is not None
        ids, scores = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for start in range(0, len(asked), AT_ONCE):
            embeddings, _ = self._images(session, asked[start : start + AT_ONCE])
            said = say(self.artifact, self.controls, embeddings)
            more, theirs = own_scores(said, measure_of(self.strategy))
            ids.append(more)
            scores.append(theirs)
        return np.concatenate(ids), np.concatenate(scores)

    def predictions(self, session: Session, asked: Tasks) -> dict[int, Prediction]:
        """Task → prediction with its own score, as of :func:`backend.predictions.predict_tasks`."""
        assert self.artifact is not None
        embeddings, withheld = self._images(session, asked)
        measure = measure_of(self.strategy)
        return predict_tasks(self.artifact, self.controls, embeddings, measure, withheld)

    def _images(
        self, session: Session, asked: Tasks
    ) -> tuple[Embeddings, dict[str, dict[int, str]]]:
        """Data key → the tasks with their embeddings, and why some are without a ticked choice."""
        assert self.artifact is not None
        embeddings, withheld = dict[str, tuple[Tasks, NDArray[Any]]](), dict[str, dict[int, str]]()
        for key in self.keys:
            parts = [
                known_images(session, self.project_id, key, self.artifact.backbone, _named(some))
                for some in np.array_split(np.sort(asked), -(-len(asked) // MOST_NAMED))
            ]
            parts = [part for part in parts if len(part.task_ids)]
            withheld[key] = {}
            for part in parts:
                withheld[key] |= self.withholding.withheld(part)
            if parts:
                embeddings[key] = (
                    np.concatenate([part.task_ids for part in parts]),
                    np.concatenate([part.embeddings for part in parts]),
                )
        return embeddings, withheld


def _named(asked: Tasks) -> ColumnElement[bool]:
    return TaskImage.task_id.in_(asked.tolist())


@dataclass(frozen=True, eq=False)
class PushPlan:
    """The n tasks whose prediction Label Studio lacks of an order of a version, soonest first.

    ``task_ids`` and ``scores`` are (n,). Tasks in ``replaced`` carry a prediction of the same order
    that is no longer right: their image was mended or turned out to be broken, or their choice is
    ticked from now on or no longer.
    """

    version: int
    order: int
    task_ids: Tasks
    scores: Scores
    answerer: Answerer
    replaced: frozenset[int] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        """What Label Studio calls the order."""
        return order_name(self.version, self.order)

    def __len__(self) -> int:
        return len(self.task_ids)

    def part(self, session: Session, start: int, stop: int) -> list[tuple[int, Prediction]]:
        """The predictions from one place to another. A task whose image is not known any more is
        left out."""
        task_ids, scores = self.task_ids[start:stop], self.scores[start:stop]
        asked = task_ids[scores != LAST_SCORE]
        said = {}
        if self.answerer.artifact is not None and len(asked):
            said = self.answerer.predictions(session, asked)
        return [
            (task_id, self._prediction(said, task_id, score))
            for task_id, score in zip(task_ids.tolist(), scores.tolist(), strict=True)
            if score == LAST_SCORE or self.answerer.artifact is None or task_id in said
        ]

    def _prediction(self, said: dict[int, Prediction], task_id: int, score: float) -> Prediction:
        if score == LAST_SCORE:
            return missing_image_prediction()
        return replace(said[task_id], score=score) if task_id in said else Prediction(score, [])


def plan_push(
    session: Session, project: Project, artifact: Artifact | None, order: Order, settings: Settings
) -> PushPlan:
    """What must be pushed so that every unlabelled task has its place in an order."""
    columns = (Task.id, Task.pushed_version, Task.pushed_order, Task.pushed_score)
    unlabelled = select(*columns).where(Task.project_id == project.id, ~Task.is_labeled)
    number, version, pushed, score = read_floats(session, unlabelled.order_by(Task.id)).T
    task_ids = number.astype(np.int64)
    # Where a killed push was not seen to end, the score that Label Studio holds may not be known.
    held = (version == order.version) & (pushed == order.number)
    broken = np.isin(task_ids, list(broken_tasks(session, project.id)))
    last = held & (score == LAST_SCORE)
    spoilt = held & broken & ~last & ~np.isnan(score)
    controls = controls_of(project)
    withholding = Withholding.of(project.id, settings, check_tasks(session, project.id))
    turned = np.isin(task_ids, turned_tasks(session, order, task_ids[held], controls, withholding))
    asked = ~held | last | spoilt | turned
    answerer = Answerer(project.id, artifact, controls, order.strategy, withholding)
    found, places = _places(session, answerer, order, settings, task_ids[asked & ~broken])
    score_now = np.full(len(task_ids), np.nan)
    score_now[np.searchsorted(task_ids, found)] = places
    score_now[asked & broken] = LAST_SCORE
    # What only turns keeps its place.
    kept = turned & ~broken & ~np.isnan(score_now) & ~np.isnan(score)
    score_now[kept] = score[kept]
    mended = last & ~np.isnan(score_now) & (score_now != LAST_SCORE)
    ready = np.flatnonzero(~np.isnan(score_now) & (~held | spoilt | mended | turned))
    ready = ready[np.lexsort((task_ids[ready], score_now[ready]))]
    wrong = frozenset(task_ids[spoilt | mended | turned].tolist())
    plan = task_ids[ready], score_now[ready]
    return PushPlan(order.version, order.number, *plan, answerer, wrong)


def _places(
    session: Session, answerer: Answerer, order: Order, settings: Settings, asked: Tasks
) -> tuple[Tasks, Scores]:
    """Those of the tasks that can be answered, ascending, and their places in the order."""
    if not len(asked):
        return asked, np.zeros(0)
    known = answerer.known(session, asked)
    places = places_of(order).at(known)
    late = known[np.isnan(places)]
    if not len(late):
        return known, places
    scored, own = late, np.zeros(0)
    if answerer.artifact is not None:
        scored, own = answerer.own_scores(session, late)
    if answerer.artifact is None or order.strategy == RANDOM:
        own = unlearned_scores(answerer.project_id, scored, settings.seed)
    groups = {
        task_id: list(by_key.values())
        for task_id, by_key in groups_of_tasks(session, order.project_id, scored.tolist()).items()
    }
    mine = dict(zip(scored.tolist(), own.tolist(), strict=True))
    placed = place_tasks(session, order.project_id, order, mine, groups, settings.audit_share)
    for task_id, place in placed.items():
        places[np.searchsorted(known, task_id)] = place
    there = ~np.isnan(places)
    return known[there], places[there]
