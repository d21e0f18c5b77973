"""The step that checks a project's labels and images, when nothing else is to be done.

It computes over all labels, so it waits twenty times as long as it took before it does so again:
it takes at most a twentieth of a trainer's time.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, Text, cast, func, select
from sqlalchemy.orm import Session

from backend import clock
from backend.arrays import in_parts
from backend.groups import KnownImages, known_images
from backend.suspicious import check_labels, looked_at
from backend.sync import controls_of
from backend.tables import Label, Order, Project, QualityCheck, Vote
from backend.task_rows import AGREED
from backend.tools import Tools
from model.drift import Drift, drift

PAUSE = 20.0
MOST_IMAGES = 500
"""New images, and old ones drawn by the seed, that are compared."""


class QualitySteps:
    """The checks of one project. The step returns True when it did something."""

    def __init__(self, tools: Tools, project_id: int, wake: Callable[[float], None]) -> None:
        self.tools = tools
        self.project_id = project_id
        self._wake = wake

    def check(self) -> bool:
        """Look for suspicious labels and for drift, when labels or images have changed."""
        tools, backbone = self.tools, self.tools.engine.backbone
        with tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            before = session.get(QualityCheck, self.project_id)
            if project.gone or not project.attempted:
                return False
            mark = _mark(session, project)
            if before is not None and before.mark == mark:
                return False
            if before is not None and clock.now() < before.checked_at + PAUSE * before.seconds:
                self._wake(before.checked_at + PAUSE * before.seconds)
                return False
            looked = looked_at(session, project, backbone, tools.settings.audit_share)
            images = _images(session, project, backbone)
            last = last_of_the_first(session, project.id)
        began = time.perf_counter()
        row = QualityCheck(
            project_id=self.project_id,
            mark=mark,
            suspicious=check_labels(looked, tools.settings.seed),
            labels=sum(len(each.part.task_ids) + len(each.between) for each in looked),
            drift={key: _drift(known, last, tools.settings.seed) for key, known in images.items()},
            seconds=time.perf_counter() - began,
            checked_at=clock.now(),
        )
        with tools.store.write() as session:
            tools.leases.check(session, self.project_id)
            session.merge(row)
        return True


def _mark(session: Session, project: Project) -> str:
    """Digest of what a check depends on. Labels count once a training has seen them."""
    labels = select(func.count()).where(Label.project_id == project.id, Label.status != AGREED)
    seen: list[Any] = [project.attempted, session.scalar(labels)]
    digest = hashlib.sha256(json.dumps(seen).encode())
    for part in in_parts(session, _disputed(project.id)):
        digest.update(json.dumps([list(row) for row in part]).encode())
    return digest.hexdigest()


def _disputed(project_id: int) -> Select[*tuple[Any, ...]]:
    """What each annotator said of the tasks on which they differ, as text.

    Where all say the same nobody dissents from the label. So the database picks the others, for
    this is asked at every look.
    """
    of_project, said = Vote.project_id == project_id, cast(Vote.choices, Text)
    tasks = select(Vote.task_id).where(of_project).group_by(Vote.task_id)
    return (
        select(Vote.task_id, Vote.annotation_id, said)
        .where(of_project, Vote.task_id.in_(tasks.having(func.min(said) != func.max(said))))
        .order_by(Vote.task_id, Vote.annotation_id)
    )


def _images(session: Session, project: Project, backbone: str) -> dict[str, KnownImages]:
    keys = sorted({control.data_key for control in controls_of(project)})
    return {key: known_images(session, project.id, key, backbone) for key in keys}


def last_of_the_first(session: Session, project_id: int) -> int:
    """Number of the last task that was there when the first version had its first order; 0 while
    there is none. Tasks are numbered as they come."""
    orders = select(Order.last_task).where(Order.project_id == project_id, Order.version > 0)
    return session.scalar(orders.order_by(Order.version, Order.number).limit(1)) or 0


def _drift(known: KnownImages, last: int, seed: int) -> dict[str, Any]:
    """The newest images that came after task ``last`` against those from before, one of each group
    of near-duplicates."""
    if not len(known.leaders):
        return asdict(Drift(None, None, None, 0, 0))
    first = np.sort(np.unique(known.leaders, return_index=True)[1])
    rows, is_new = known.embeddings[first], known.task_ids[first] > last
    return asdict(drift(_drawn(rows[~is_new], seed), rows[is_new][-MOST_IMAGES:], seed=seed))


def _drawn(rows: NDArray[np.float16], seed: int) -> NDArray[np.float16]:
    if len(rows) <= MOST_IMAGES:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), MOST_IMAGES, replace=False)
    return np.asarray(rows[np.sort(chosen)])
