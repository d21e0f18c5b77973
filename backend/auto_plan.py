"""What could be accepted under a promise: the audit labels that it stands on, and the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.errors import SetupError
from backend.groups import KnownImages, known_images
from backend.known_tasks import TaskStates, task_states
from backend.label_config import Control
from backend.predictions import current_classes, head_of
from backend.promises import covered_tasks
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import Label, Project
from backend.task_rows import AGREED
from model.artifact import Artifact
from model.audit import in_check
from model.risk import Promise, choose_per_class, choose_threshold


@dataclass(frozen=True)
class Candidate:
    """A task that nobody has labelled, and what the version says of it with what probability."""

    task_id: int
    choice: str
    sureness: float


@dataclass(frozen=True)
class Plan:
    """What a promise covers. ``promises`` is one, or one for each class in ``classes``.

    ``accepted``  would be annotated, the least sure first
    ``checks``    as sure, but left to people
    ``audit``     tasks of audit images that are as sure
    ``below``     the surest of those that are not sure enough, the surest first
    """

    version: int
    control: Control
    classes: tuple[str, ...]
    promises: list[Promise]
    accepted: list[Candidate]
    checks: list[Candidate]
    below: list[Candidate]
    audit: list[int]


@dataclass(frozen=True, eq=False)
class _Rows:
    """One row for each group of near-duplicates: the least sure of its images speaks for it."""

    sureness: NDArray[np.float64]
    predicted: NDArray[np.int64]
    right: NDArray[np.bool_]


def the_control(project: Project) -> Control:
    """The one single choice of a project; :class:`SetupError` where it has another config."""
    controls = controls_of(project)
    if len(controls) != 1 or controls[0].multiple:
        raise SetupError(
            "Answers can be accepted in projects with one question that takes one choice; this one "
            f"has {len(controls)} question(s)"
            + (
                ", of which one takes several choices."
                if any(c.multiple for c in controls)
                else "."
            ),
            mend="Go on labelling, or divide the project.",
        )
    return controls[0]


def make_plan(
    session: Session,
    project: Project,
    artifact: Artifact,
    settings: Settings,
    *,
    max_error: float,
    confidence: float,
    per_class: bool = False,
) -> Plan:
    """What the version ``artifact`` could accept now. Nothing is written.

    Audit images are never accepted, nor is what somebody has labelled or skipped, or what an
    earlier promise covers. A group of near-duplicates is accepted when all of it is sure enough.
    """
    control = the_control(project)
    head = head_of(artifact, control)
    share = settings.audit_share
    images = known_images(session, project.id, control.data_key, artifact.backbone)
    classes: list[str] = []
    if head is not None and len(images.task_ids):
        classes, said = current_classes(head, control, images.embeddings)
    if not classes:
        raise SetupError(
            "The version that serves says nothing of the classes of this project.",
            mend=f"Label more images, or run tiebreak train {project.id}.",
        )
    sureness, predicted = said.max(axis=1).astype(np.float64), said.argmax(axis=1)
    # The others are less sure once an earlier promise has taken its images, so the audit images
    # that it would have taken must not vouch for them.
    new = ~np.isin(images.task_ids, list(covered_tasks(session, project.id)))
    audit = new & images.in_audit(share)
    free = new & ~images.in_audit(share) & _free(task_states(session, project.id), images)
    truth = _truth(session, project.id, control, images, classes)
    checked = np.array(
        [in_check(leader.decode(), settings.check_share) for leader in images.leaders]
    )
    right = truth == predicted
    stands = _by_group(images, audit & (truth >= -1), sureness, predicted, right)
    others = _by_group(images, free & ~checked, sureness, predicted, right)
    promises = _promises(stands, others, len(classes) if per_class else 0, max_error, confidence)
    line = np.array([p.threshold if p.threshold is not None else np.inf for p in promises])
    least = line[predicted] if per_class else np.full(len(predicted), line[0])
    enough = sureness >= least
    sure = _whole_groups(images, free, enough)
    beside = _whole_groups(images, audit, enough)

    def those(rows: NDArray[np.bool_]) -> list[Candidate]:
        places = np.flatnonzero(rows)
        places = places[np.argsort(sureness[places], kind="stable")].tolist()
        return [
            Candidate(int(images.task_ids[i]), classes[predicted[i]], float(sureness[i]))
            for i in places
        ]

    kept = (those(sure & ~checked), those(sure & checked), those(free & ~sure)[::-1])
    vouching = images.task_ids[beside].tolist()
    return Plan(artifact.version, control, tuple(classes), promises, *kept, vouching)


def _promises(
    stands: _Rows, others: _Rows, classes: int, max_error: float, confidence: float
) -> list[Promise]:
    if not classes:
        return [
            choose_threshold(
                stands.sureness,
                stands.right,
                others.sureness,
                max_error=max_error,
                confidence=confidence,
            )
        ]
    return choose_per_class(
        stands.sureness,
        stands.predicted,
        stands.right,
        others.sureness,
        others.predicted,
        classes=classes,
        max_error=max_error,
        confidence=confidence,
    )


def _free(states: TaskStates, images: KnownImages) -> NDArray[np.bool_]:
    """(n,) whose task nobody has labelled or skipped."""
    rows = states.rows(images.task_ids)
    return np.asarray((rows.annotations == 0) & (rows.skips == 0) & ~rows.is_labeled)


def _truth(
    session: Session,
    project_id: int,
    control: Control,
    images: KnownImages,
    classes: Sequence[str],
) -> NDArray[np.int64]:
    """(n,) the class that people agree on; -1 for one that the head does not know, -2 for none."""
    query = select(Label.task_id, Label.choices).where(
        Label.project_id == project_id, Label.control == control.name, Label.status == AGREED
    )
    place = {name: i for i, name in enumerate(classes)}
    said = {task: place.get(choices[0], -1) for task, choices in session.execute(query) if choices}
    return np.array([said.get(int(t), -2) for t in images.task_ids], dtype=np.int64)


def _by_group(
    images: KnownImages,
    rows: NDArray[np.bool_],
    sureness: NDArray[np.float64],
    predicted: NDArray[np.int64],
    right: NDArray[np.bool_],
) -> _Rows:
    """The groups with an image among ``rows``; one is right when all of its images are."""
    chosen: dict[bytes, int] = {}
    wrong = set()
    for i in np.flatnonzero(rows).tolist():
        leader = images.leaders[i]
        first = chosen.setdefault(leader, i)
        if sureness[i] < sureness[first]:
            chosen[leader] = i
        if not right[i]:
            wrong.add(leader)
    places = np.array(list(chosen.values()), dtype=np.int64)
    good = np.array([leader not in wrong for leader in chosen], dtype=np.bool_)
    return _Rows(sureness[places], predicted[places], good)


def _whole_groups(
    images: KnownImages, rows: NDArray[np.bool_], sure: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(n,) of ``rows`` those in groups of which all such images are sure enough."""
    unsure = {images.leaders[i] for i in np.flatnonzero(rows & ~sure).tolist()}
    whole = np.array([leader not in unsure for leader in images.leaders], dtype=np.bool_)
    return np.asarray(rows & whole)
