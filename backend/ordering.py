"""Making an order of the queue, and telling when a new one is due.

An order is made for a version that has none yet; and anew for the same version when much more of
the pool is known, when its picks are used up, or when what it was made by has changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend import clock
from backend.groups import count_known, lacks_groups
from backend.known_tasks import KnownTasks, known_tasks, pool_of
from backend.label_config import Control
from backend.orders import (
    RANDOM,
    measure_of,
    newest_order,
    pack_places,
    wanted_strategy,
)
from backend.pool import broken_tasks, lacks_embeddings
from backend.predictions import own_scores, unlearned_prediction
from backend.projects import newest_version
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import Order, Project, Task, Version
from backend.version_metrics import half_width
from model.artifact import Artifact
from model.audit import audit_pace, audit_place
from model.queries import Pool, pick
from model.queue import Line, line_up, twins

ENOUGH_AT_FIRST = 128
ENOUGH_KNOWN = 1_000
GROWN = 10.0
"""While images are embedded, a new order is made when this many times as many tasks are known."""
GROWN_AT_LAST = 1.5
"""The same when all are embedded."""
PACE_CHANGED = 1.5
FEWEST_AT_ONCE = 10
VERSIONS_LOOKED_AT = 5


@dataclass(frozen=True)
class Standing:
    """What decides whether an order is due.

    ``known`` tasks have a known image, ``waiting`` of them are in the queue; ``complete``: no image
    is still to be embedded or grouped; ``strategy``, ``audit_share`` and ``pace`` are those that
    an order would be made by now.
    """

    known: int
    waiting: int
    complete: bool
    strategy: str
    audit_share: float
    pace: float


def standing(session: Session, project: Project, settings: Settings, backbone: str) -> Standing:
    """How a project stands; ``backbone`` is the network whose embeddings are read."""
    known, waiting = count_known(session, project.id, backbone)
    newest = newest_version(session, project.id)
    width = half_width(newest.metrics) if newest else None
    return Standing(
        known,
        waiting,
        is_complete(session, project.id, backbone),
        wanted_strategy(project, settings.strategy),
        settings.audit_share,
        audit_pace(width, settings.audit_share, settings.audit_half_width),
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
    if order.picks and not _some_wait(session, order):
        return "its picks are used up"
    return ""


def make_order(
    session: Session,
    project: Project,
    artifact: Artifact | None,
    settings: Settings,
    backbone: str,
    reason: str,
) -> Order:
    """The next order of the version that serves. Nothing is written.

    The same tables give the same order in every process.
    """
    version = artifact.version if artifact else 0
    before = newest_order(session, project.id, version)
    number = before.number + 1 if before else 0
    now = standing(session, project, settings, backbone)
    controls = controls_of(project)
    known = known_tasks(session, project, controls, backbone, settings.audit_share)
    own = _own_scores(session, project, artifact, controls, known, settings, now.strategy)
    queue = _Queue.of(sorted(own), known)
    picks: list[int] = []
    if len(known.task_ids):
        pool = pool_of(session, project, artifact, controls, known, queue.candidates())
        generator = np.random.default_rng([settings.seed, version, number])
        batch = batch_size(session, project, settings, controls)
        picks = _pick(pool, known, now.strategy, batch, settings.queue_head, generator)
    line = queue.line_up([own[task_id] for task_id in queue.task_ids], picks, known, now.pace)
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
        places=pack_places(dict(zip(queue.task_ids, line.scores.tolist(), strict=True))),
        scale={"queue": line.queue.tolist(), "audit": line.audit.tolist()},
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

    ``audit``      the leader of the audit group; None where it is in none
    ``behind``     (m,) which are near-duplicates of what stands before, or were skipped
    ``half_done``  (m,) which have an annotation and wait for another
    """

    task_ids: list[int]
    audit: list[str | None]
    behind: NDArray[np.bool_]
    half_done: NDArray[np.bool_]

    @classmethod
    def of(cls, task_ids: list[int], known: KnownTasks) -> _Queue:
        place = {int(task_id): i for i, task_id in enumerate(known.task_ids)}
        rows = [known.states[task_id] for task_id in task_ids]
        half_done = np.array([row.annotations > 0 for row in rows], dtype=np.bool_)
        groups = [
            known.groups[place[row.id]] if row.id in place and row.annotations == 0 else ()
            for row in rows
        ]
        done = np.flatnonzero(known.is_labelled)
        taken = {leader for position in done for leader in known.groups[position]}
        skipped = np.array([row.skips > 0 for row in rows], dtype=np.bool_) & ~half_done
        audit = [known.audit[place[t]] if t in place else None for t in task_ids]
        return cls(task_ids, audit, twins(groups, taken) | skipped, half_done)

    def candidates(self) -> list[int]:
        """The tasks that may be picked."""
        free = ~(self.behind | self.half_done)
        return [
            task_id
            for task_id, is_free, leader in zip(self.task_ids, free, self.audit, strict=True)
            if is_free and leader is None
        ]

    def line_up(
        self, own: Sequence[float], picks: Sequence[int], known: KnownTasks, pace: float
    ) -> Line:
        places = [np.nan if leader is None else audit_place(leader) for leader in self.audit]
        where = {task_id: i for i, task_id in enumerate(self.task_ids)}
        labelled = known.is_labelled
        return line_up(
            own,
            picks=[where[task_id] for task_id in picks],
            audit_places=places,
            behind=self.behind,
            audit_served=int((labelled & known.in_audit).sum()),
            served=int(labelled.sum()),
            pace=pace,
        )


def _own_scores(
    session: Session,
    project: Project,
    artifact: Artifact | None,
    controls: Sequence[Control],
    known: KnownTasks,
    settings: Settings,
    strategy: str,
) -> dict[int, float]:
    """The own score of each task that is to have a place, by number.

    These are all that are in the queue and not broken; with a version, those of them that it can
    say something about.
    """
    waiting = {task_id for task_id, row in known.states.items() if not row.is_labeled}
    if artifact is None:
        placed = waiting - broken_tasks(session, project.id)
        found: dict[int, float] = {}
    else:
        images = {key: (part.task_ids, part.embeddings) for key, part in known.images.items()}
        found = own_scores(artifact, controls, images, measure_of(strategy))
        placed = waiting & found.keys()
    if artifact is None or strategy == RANDOM:
        return {t: unlearned_prediction(project.id, t, settings.seed).score for t in placed}
    return {task_id: found[task_id] for task_id in placed}


def _pick(
    pool: Pool,
    known: KnownTasks,
    strategy: str,
    batch: int,
    head: int,
    generator: np.random.Generator,
) -> list[int]:
    """The tasks at the head of the queue: a batch, and then what goes with it, for people who are
    faster than the next version."""
    first = pick(strategy, pool, batch, generator)
    then = first[:0]
    if batch < head:
        labelled = np.union1d(pool.labelled, first)
        then = pick(strategy, replace(pool, labelled=labelled), head - batch, generator)
    return [int(known.task_ids[position]) for position in np.concatenate([first, then])]


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
