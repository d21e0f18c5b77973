"""What is known of the tasks of a project: their images, groups and labels, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.dataset import fits_control
from backend.groups import KnownImages, known_images
from backend.label_config import Control
from backend.predictions import current_classes, head_of
from backend.tables import Label, Project, Task
from backend.task_rows import AGREED
from model.artifact import Artifact
from model.queries import Answers, Pool


class TaskState(NamedTuple):
    """A task's number and what has been done with it; see :class:`backend.tables.Task`."""

    id: int
    is_labeled: bool
    annotations: int
    skips: int


@dataclass(frozen=True, eq=False)
class KnownTasks:
    """The n tasks of a project that have at least one known image.

    ``task_ids``  (n,) int64, ascending
    ``images``    by data key
    ``groups``    of each task the leaders of the groups of its images
    ``audit``     of each task the first of these that is in the audit set; None where none is
    ``states``    those of all tasks of the project, known or not, by number
    """

    task_ids: NDArray[np.int64]
    images: Mapping[str, KnownImages]
    groups: list[tuple[str, ...]]
    audit: list[str | None]
    states: Mapping[int, TaskState]

    @property
    def in_audit(self) -> NDArray[np.bool_]:
        """(n,) which tasks are in the audit set."""
        return np.array([leader is not None for leader in self.audit], dtype=np.bool_)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """(n,) which tasks somebody has annotated, or nobody needs to any more."""
        states = (self.states[int(task_id)] for task_id in self.task_ids)
        return np.array([one.annotations > 0 or one.is_labeled for one in states], dtype=np.bool_)

    def positions(self, task_ids: Sequence[int]) -> NDArray[np.int64]:
        """Where those of the tasks stand that are known."""
        asked = np.asarray(task_ids, dtype=np.int64)
        return np.flatnonzero(np.isin(self.task_ids, asked))


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
    groups: dict[int, list[str]] = {}
    audit: dict[int, str] = {}
    for found in images.values():
        drawn = found.in_audit(audit_share)
        for task_id, leader, is_drawn in zip(
            found.task_ids.tolist(), found.leaders, drawn.tolist(), strict=True
        ):
            groups.setdefault(task_id, []).append(leader)
            if is_drawn:
                audit.setdefault(task_id, leader)
    ids = sorted(groups)
    columns = (Task.id, Task.is_labeled, Task.annotations, Task.skips)
    rows = session.execute(select(*columns).where(Task.project_id == project.id))
    return KnownTasks(
        np.array(ids, dtype=np.int64),
        images,
        [tuple(groups[task_id]) for task_id in ids],
        [audit.get(task_id) for task_id in ids],
        {row[0]: TaskState(*row) for row in rows},
    )


def pool_of(
    session: Session,
    project: Project,
    artifact: Artifact | None,
    controls: Sequence[Control],
    known: KnownTasks,
    candidates: Sequence[int],
) -> Pool:
    """What a query strategy is asked about; it may pick ``candidates``, tasks, and no others.

    Labels that the version has not learned yet count as labelled too: their images need not be
    asked about again. Audit images are learned from by nobody, and so cover nothing.
    """
    n = len(known.task_ids)
    agreed = _agreed(session, project.id)
    labelled = known.positions([t for labels in agreed.values() for t in labels])
    barred = np.ones(n, dtype=np.bool_)
    barred[known.positions(candidates)] = False
    answers = (_answers(artifact, control, known, agreed) for control in controls if artifact)
    return Pool(
        _side_by_side(known),
        tuple(answer for answer in answers if answer is not None),
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
    artifact: Artifact,
    control: Control,
    known: KnownTasks,
    agreed: Mapping[str, Mapping[int, list[str]]],
) -> Answers | None:
    """What the head of a control says; None where it says nothing of this config's classes.

    Of a task without that control's image there is nothing to ask, so it is answered for certain.
    """
    head, images = head_of(artifact, control), known.images[control.data_key]
    if head is None or not len(images.task_ids):
        return None
    classes, said = current_classes(head, control, images.embeddings)
    if not classes:
        return None
    probabilities = _in_rows(known, images, said)
    if not control.multiple:
        there = np.isin(known.task_ids, images.task_ids)
        probabilities[~there, 0] = 1
    labels = agreed.get(control.name, {})
    learned = {int(t) for t in known.task_ids[~known.in_audit]}
    fitting = [
        choices
        for task_id, choices in labels.items()
        if task_id in learned and fits_control(choices, control)
    ]
    counts = [sum(name in choices for choices in fitting) for name in classes]
    asks_itself = len(classes) == len(head.classes) and len(known.images) == 1
    return Answers(
        probabilities,
        control.multiple,
        head if asks_itself else None,
        np.array(counts, dtype=np.int64),
    )


def _in_rows(
    known: KnownTasks, images: KnownImages, values: NDArray[np.floating]
) -> NDArray[np.floating]:
    """(n, m) the images' rows of ``values``, zeros for tasks that lack the image."""
    found = np.zeros((len(known.task_ids), values.shape[1]), dtype=values.dtype)
    found[np.searchsorted(known.task_ids, images.task_ids)] = values
    return found
