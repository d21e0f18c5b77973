"""Making an order of the queue; :mod:`backend.standing` tells when a new one is due."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend import clock
from backend.broken_images import broken_tasks
from backend.known_tasks import KnownTasks, known_tasks, pool_of
from backend.label_config import Control
from backend.orders import RANDOM, measure_of, newest_order, pack_places
from backend.predictions import Said, own_scores, say, unlearned_scores
from backend.promises import Checks, automatic_tasks, checks_of
from backend.settings import Settings
from backend.standing import Counts, count, standing
from backend.sync import controls_of
from backend.tables import Order, Project, Version
from model.artifact import Artifact
from model.audit import audit_place
from model.queries import pick_batches
from model.queue import Line, Stream, line_up, twins

FEWEST_AT_ONCE = 10
VERSIONS_LOOKED_AT = 5
CHECK_PACE = 0.2
"""Share of what is served that a promise left to people as a check, while there is any of it."""


def make_order(
    session: Session,
    project: Project,
    artifact: Artifact | None,
    settings: Settings,
    backbone: str,
    reason: str,
    counts: Counts | None = None,
) -> Order:
    """The next order of the version that serves. Nothing is written.

    ``counts`` are those of :func:`backend.standing.count`, where they are known already. The same
    tables give the same order in every process.
    """
    version = artifact.version if artifact else 0
    before = newest_order(session, project.id, version)
    number = before.number + 1 if before else 0
    counts = counts or count(session, project.id, backbone)
    now = standing(session, project, settings, counts)
    controls = controls_of(project)
    known = known_tasks(session, project, controls, backbone, settings.audit_share)
    said = _said(artifact, controls, known)
    task_ids, own = _own_scores(session, project, artifact, known, said, settings, now.strategy)
    checks = checks_of(session, project.id)
    queue = _Queue.of(task_ids, known, checks)
    picks: list[int] = []
    if len(known.task_ids):
        pool = pool_of(session, project, known, said, queue.candidates())
        generator = np.random.default_rng([settings.seed, version, number])
        batch = batch_size(session, project, settings, controls)
        # A batch, and then what goes with it, for people who are faster than the next version.
        batches = (batch, max(0, settings.queue_head - batch))
        places = pick_batches(now.strategy, pool, batches, generator)
        picks = known.task_ids[places].tolist()
    automatic = automatic_tasks(session, project.id)
    line = queue.line_up(own, picks, known, now.pace, checks, automatic)
    scale = {"queue": line.queue.tolist(), "audit": line.audit.tolist()}
    if checks.runs:
        scale["promises"] = [[float(run)] for run in checks.runs]
    return Order(
        project_id=project.id,
        version=version,
        number=number,
        created_at=clock.now(),
        reason=reason,
        strategy=now.strategy,
        audit_share=settings.audit_share,
        pace=now.pace,
        known=len(known.task_ids),
        picks=picks,
        places=pack_places(queue.task_ids, line.scores),
        scale=scale,
        last_task=int(known.states.task_ids.max(initial=0)),
    )


def batch_size(
    session: Session, project: Project, settings: Settings, controls: Sequence[Control]
) -> int:
    """How many images are picked to go well together: about as many as are labelled before the
    next version. The setting, or else the median over the last versions; while nothing is learned,
    two for each class."""
    if settings.batch_size:
        return settings.batch_size
    query = (
        select(Version.labels)
        .where(Version.project_id == project.id)
        .order_by(Version.number.desc())
        .limit(VERSIONS_LOOKED_AT + 1)
    )
    labels = list(session.scalars(query))
    more = [after - before for after, before in itertools.pairwise(labels)]
    usual = np.median([each for each in more if each > 0] or [0])
    if not labels:
        usual = 2 * max((len(control.classes) for control in controls), default=0)
    fewest = max(FEWEST_AT_ONCE, settings.min_new_labels)
    return int(min(max(usual, fewest), max(settings.queue_head, fewest)))


@dataclass(frozen=True, eq=False)
class _Queue:
    """The m tasks that an order places, by number.

    ``task_ids``   (m,) int64, ascending
    ``audit``      (m,) places among the audit images, in [0, 1); NaN where it is none
    ``checks``     (m,) the same among the images that a promise left to people
    ``behind``     (m,) which are near-duplicates of what stands before, or were skipped
    ``half_done``  (m,) which have an annotation and wait for another
    """

    task_ids: NDArray[np.int64]
    audit: NDArray[np.float64]
    checks: NDArray[np.float64]
    behind: NDArray[np.bool_]
    half_done: NDArray[np.bool_]

    @classmethod
    def of(cls, task_ids: NDArray[np.int64], known: KnownTasks, checks: Checks) -> _Queue:
        states = known.states.rows(task_ids)
        half_done = states.annotations > 0
        is_known = np.isin(task_ids, known.task_ids)
        place = np.searchsorted(known.task_ids, task_ids[is_known])
        groups = np.full((len(task_ids), known.groups.shape[1]), -1, dtype=np.int64)
        groups[is_known] = known.groups[place]
        groups[half_done] = -1
        drawn = np.full((2, len(task_ids)), -1, dtype=np.int64)
        drawn[0, is_known] = known.audit[place]
        drawn[1, is_known] = known.groups[place].max(axis=1, initial=-1)
        drawn[1, ~np.isin(task_ids, checks.task_ids) | (drawn[0] >= 0)] = -1
        audit, check = (_places_among(each, known) for each in drawn)
        taken = np.unique(known.groups[known.is_labelled])
        skipped = (states.skips > 0) & ~half_done
        behind = twins(groups, taken[taken >= 0]) | skipped
        return cls(task_ids, audit, check, behind, half_done)

    def candidates(self) -> NDArray[np.int64]:
        """The tasks that may be picked."""
        free = ~(self.behind | self.half_done) & np.isnan(self.audit) & np.isnan(self.checks)
        return np.asarray(self.task_ids[free])

    def line_up(
        self,
        own: NDArray[np.float64],
        picks: Sequence[int],
        known: KnownTasks,
        pace: float,
        checks: Checks,
        automatic: NDArray[np.int64],
    ) -> Line:
        """``automatic`` are the tasks that were served to nobody, though they are labelled."""
        labelled = known.is_labelled & ~np.isin(known.task_ids, automatic)
        answered = min(checks.answered, checks.served)
        return line_up(
            own,
            picks=np.searchsorted(self.task_ids, np.array(picks, dtype=np.int64)),
            audit_places=self.audit,
            behind=self.behind,
            audit_served=int((labelled & known.in_audit).sum()),
            served=int(labelled.sum()),
            pace=pace,
            checks=Stream(self.checks, answered, checks.served, CHECK_PACE),
        )


def _places_among(groups: NDArray[np.int64], known: KnownTasks) -> NDArray[np.float64]:
    """(m,) places in [0, 1) by the picture, from (m,) positions of groups; NaN where one is -1."""
    places = np.full(len(groups), np.nan)
    for position in np.flatnonzero(groups >= 0).tolist():
        places[position] = audit_place(known.leaders[groups[position]].decode())
    return places


def _said(artifact: Artifact | None, controls: Sequence[Control], known: KnownTasks) -> list[Said]:
    """What a version says of the known images; nothing without one."""
    if artifact is None:
        return []
    images = {key: (part.task_ids, part.embeddings) for key, part in known.images.items()}
    return say(artifact, controls, images)


def _own_scores(
    session: Session,
    project: Project,
    artifact: Artifact | None,
    known: KnownTasks,
    said: Sequence[Said],
    settings: Settings,
    strategy: str,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tasks that are to have a place, ascending, and their own scores.

    These are all that are in the queue and not broken; with a version, those of them that it can
    say something about.
    """
    waiting = known.states.task_ids[~known.states.is_labeled]
    scores = np.zeros(0)
    if artifact is None:
        broken = list(broken_tasks(session, project.id))
        placed = np.setdiff1d(waiting, np.array(broken, dtype=np.int64))
    else:
        found, scores = own_scores(said, measure_of(strategy))
        there = np.isin(found, waiting)
        placed, scores = found[there], scores[there]
    if artifact is None or strategy == RANDOM:
        scores = unlearned_scores(project.id, placed, settings.seed)
    return placed, scores
