"""What is known of the tasks of a project: their images, groups and labels, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.arrays import DIGEST, read_ints
from backend.dataset import fits_control
from backend.groups import KnownImages, known_images
from backend.label_config import Control
from backend.predictions import Said
from backend.tables import Label, Project, Task
from backend.task_rows import AGREED
from model.queries import Answers, Pool


@dataclass(frozen=True, eq=False)
class TaskStates:
    """All m tasks of a project, and what has been done with each: see :class:`Task`.

    ``task_ids`` (m,) int64, ascending; ``is_labeled`` (m,) bool, ``annotations`` and ``skips``
    (m,) int64.
    """

    task_ids: NDArray[np.int64]
    is_labeled: NDArray[np.bool_]
    annotations: NDArray[np.int64]
    skips: NDArray[np.int64]

    def rows(self, task_ids: NDArray[np.int64]) -> TaskStates:
        """Those of some of the tasks, in their order."""
        at = np.searchsorted(self.task_ids, task_ids)
        return TaskStates(task_ids, self.is_labeled[at], self.annotations[at], self.skips[at])


@dataclass(frozen=True, eq=False)
class KnownTasks:
    """The n tasks of a project that have at least one known image.

    ``task_ids``  (n,) int64, ascending
    ``images``    by data key
    ``leaders``   (g,) bytes, those of all groups
    ``groups``    (n, data keys) int64, the positions in ``leaders`` of those that the images of a
                  task are in; -1 where it lacks the image
    ``audit``     (n,) int64, the first of these that is in the audit set; -1 where none is
    ``states``    those of all tasks of the project, known or not
    """

    task_ids: NDArray[np.int64]
    images: Mapping[str, KnownImages]
    leaders: NDArray[np.bytes_]
    groups: NDArray[np.int64]
    audit: NDArray[np.int64]
    states: TaskStates

    @property
    def in_audit(self) -> NDArray[np.bool_]:
        """(n,) which tasks are in the audit set."""
        return np.asarray(self.audit >= 0)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """(n,) which tasks somebody has annotated, or nobody needs to any more."""
        states = self.states.rows(self.task_ids)
        return np.asarray((states.annotations > 0) | states.is_labeled)

    def positions(self, task_ids: ArrayLike) -> NDArray[np.int64]:
        """Where those of the tasks stand that are known."""
        return np.flatnonzero(np.isin(self.task_ids, np.asarray(task_ids, dtype=np.int64)))


def known_tasks(
    session: Session,
    project: Project,
    controls: Sequence[Control],
    backbone: str,
    audit_share: float,
) -> KnownTasks:
    """Read them, with the embeddings by the network ``backbone``."""
    keys = sorted({control.data_key for control in controls})
    images = {key: known_images(session, project.id, key, backbone) for key in keys}
    parts = list(images.values())
    found = [part.task_ids for part in parts] or [np.zeros(0, dtype=np.int64)]
    ids = np.unique(np.concatenate(found))
    names = [part.leaders for part in parts] or [np.zeros(0, dtype=DIGEST)]
    leaders, numbers = np.unique(np.concatenate(names), return_inverse=True)
    groups = np.full((len(ids), len(parts)), -1, dtype=np.int64)
    audit = np.full(len(ids), -1, dtype=np.int64)
    begin = 0
    for column, part in enumerate(parts):
        at = np.searchsorted(ids, part.task_ids)
        groups[at, column] = numbers[begin : begin + len(at)]
        begin += len(at)
        new = part.in_audit(audit_share) & (audit[at] < 0)
        audit[at[new]] = groups[at[new], column]
    # They are among all leaders now, and a million of them take 64 MB.
    images = {key: replace(part, leaders=part.leaders[:0]) for key, part in images.items()}
    states = task_states(session, project.id)
    return KnownTasks(ids, images, leaders, groups, audit, states)


def task_states(session: Session, project_id: int) -> TaskStates:
    """What has been done with each task of a project."""
    columns = (Task.id, Task.is_labeled, Task.annotations, Task.skips)
    query = select(*columns).where(Task.project_id == project_id).order_by(Task.id)
    ids, is_labeled, annotations, skips = read_ints(session, query).T
    return TaskStates(ids, is_labeled.astype(np.bool_), annotations, skips)


def pool_of(
    session: Session,
    project: Project,
    known: KnownTasks,
    said: Sequence[Said],
    candidates: ArrayLike,
) -> Pool:
    """What a query strategy is asked about; it may pick ``candidates``, tasks, and no others.
    ``said`` is what the heads say of the known images.

    Labels that the version has not learned yet count as labelled too: their images need not be
    asked about again. Audit images are learned from by nobody, and so cover nothing.
    """
    n = len(known.task_ids)
    agreed = _agreed(session, project.id)
    labelled = known.positions([t for labels in agreed.values() for t in labels])
    barred = np.ones(n, dtype=np.bool_)
    barred[known.positions(candidates)] = False
    return Pool(
        _side_by_side(known),
        tuple(_answers(each, known, agreed) for each in said),
        labelled[~known.in_audit[labelled]],
        barred,
    )


def _agreed(session: Session, project_id: int) -> dict[str, dict[int, list[str]]]:
    """Control → task → the choices that people agree on."""
    found: dict[str, dict[int, list[str]]] = {}
    query = select(Label).where(Label.project_id == project_id, Label.status == AGREED)
    for label in session.scalars(query):
        found.setdefault(label.control, {})[label.task_id] = label.choices
    return found


def _side_by_side(known: KnownTasks) -> NDArray[np.floating]:
    """(n, d) the embeddings of each task's images, zeros for one that it lacks."""
    n, parts = len(known.task_ids), list(known.images.values())
    whole = [part for part in parts if len(part.task_ids)]
    if len(whole) == 1 and len(whole[0].task_ids) == n:
        return whole[0].embeddings
    return np.concatenate(
        [_in_rows(known, part, part.embeddings) for part in whole] or [np.zeros((n, 1))], axis=1
    )


def _answers(
    said: Said, known: KnownTasks, agreed: Mapping[str, Mapping[int, list[str]]]
) -> Answers:
    """What the head of a control says.

    Of a task without that control's image there is nothing to ask, so it is answered for certain.
    """
    control, classes = said.control, said.classes
    images = known.images[control.data_key]
    probabilities = _in_rows(known, images, said.probabilities)
    if not control.multiple:
        there = np.isin(known.task_ids, images.task_ids)
        probabilities[~there, 0] = 1
    labels = agreed.get(control.name, {})
    learned = known.positions(list(labels))
    learned = learned[~known.in_audit[learned]]
    fitting = [
        choices
        for choices in (labels[int(task_id)] for task_id in known.task_ids[learned])
        if fits_control(choices, control)
    ]
    counts = [sum(name in choices for choices in fitting) for name in classes]
    asks_itself = len(classes) == len(said.head.classes) and len(known.images) == 1
    return Answers(
        probabilities,
        control.multiple,
        said.head if asks_itself else None,
        np.array(counts, dtype=np.int64),
    )


def _in_rows(
    known: KnownTasks, images: KnownImages, values: NDArray[np.floating]
) -> NDArray[np.floating]:
    """(n, m) the images' rows of ``values``, zeros for tasks that lack the image."""
    if len(images.task_ids) == len(known.task_ids):
        return values.copy()
    found = np.zeros((len(known.task_ids), values.shape[1]), dtype=values.dtype)
    found[np.searchsorted(known.task_ids, images.task_ids)] = values
    return found
