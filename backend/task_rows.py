"""The rows of a project's tasks, of the images that they show and of what people said of them.

Only differences are written, so that writing the same once more changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from backend import clock, labelstudio
from backend.label_config import Control
from backend.labels import Annotation, counted_votes, labelled_at, task_labels
from backend.tables import Label, Project, Task, TaskImage, Vote, storable

Row = TypeVar("Row", Task, TaskImage, Label, Vote)

GONE = "gone"
AGREED = "agreed"


def source_key(uri: str) -> str:
    """Key of an image URI: its SHA-256."""
    return hashlib.sha256(uri.encode()).hexdigest()


def image_uris(data: Mapping[str, object], controls: Iterable[Control]) -> dict[str, str]:
    """Data key → image URI, for the images that the controls are about."""
    uris = {control.data_key: control.image_uri(data) for control in controls}
    return {key: storable(uri) for key, uri in uris.items() if uri}


def write_tasks(
    session: Session,
    project_id: int,
    tasks: Sequence[labelstudio.Task],
    controls: Sequence[Control],
    annotations: Mapping[int, Sequence[Annotation]],
) -> None:
    """Write the tasks, and which images they show, with what was counted of their annotations."""
    ids = [task.id for task in tasks]
    rows = {row.id: row for row in _rows(session, Task, Task.id, project_id, ids)}
    images: dict[int, list[TaskImage]] = {}
    for image in _rows(session, TaskImage, TaskImage.task_id, project_id, ids):
        images.setdefault(image.task_id, []).append(image)
    for task in tasks:
        if task.id not in rows:
            rows[task.id] = Task(project_id=project_id, id=task.id)
            session.add(rows[task.id])
        row, listed = rows[task.id], annotations.get(task.id, ())
        row.skips = sum(annotation.was_cancelled for annotation in listed)
        row.annotations = len(listed) - row.skips
        row.labelled_at = labelled_at(listed)
        row.is_labeled = task.is_labeled
        row.updated_at = task.updated_at
        _write_images(session, project_id, task, controls, images.get(task.id, []))


def remove_tasks(session: Session, project_id: int, task_ids: set[int]) -> None:
    """Remove tasks and their images; of their labels those stay whose loss is to be learned."""
    for ids in _slices(sorted(task_ids)):
        tables = ((Task, Task.id), (TaskImage, TaskImage.task_id), (Vote, Vote.task_id))
        for table, column in tables:
            session.execute(delete(table).where(table.project_id == project_id, column.in_(ids)))
        labels = select(Label).where(Label.project_id == project_id, Label.task_id.in_(ids))
        for label in session.scalars(labels):
            _set_label(session, label, GONE, (), 0, "the task was deleted")


def write_labels(
    session: Session,
    project_id: int,
    controls: Sequence[Control],
    annotations: Mapping[int, Sequence[Annotation]],
) -> int:
    """Write what the people agreed on; how many labels to learn from changed."""
    rows: dict[int, dict[str, Label]] = {}
    for row in _rows(session, Label, Label.task_id, project_id, list(annotations)):
        rows.setdefault(row.task_id, {})[row.control] = row
    changed = 0
    for task_id, listed in annotations.items():
        wanted = task_labels(listed, controls)
        existing = rows.get(task_id, {})
        for control in existing.keys() - wanted.keys():
            changed += _set_label(session, existing[control], GONE, (), 0, "")
        for control, label in wanted.items():
            if control not in existing:
                existing[control] = Label(
                    project_id=project_id, task_id=task_id, control=control, status=GONE, choices=[]
                )
                session.add(existing[control])
            changed += _set_label(
                session, existing[control], label.status, label.choices, label.votes, label.detail
            )
    if changed:
        session.get_one(Project, project_id).changed_at = clock.now()
    return changed


def write_votes(
    session: Session,
    project_id: int,
    controls: Sequence[Control],
    annotations: Mapping[int, Sequence[Annotation]],
) -> None:
    """Write what each annotator says about these tasks."""
    rows = {
        (row.task_id, row.annotation_id): row
        for row in _rows(session, Vote, Vote.task_id, project_id, list(annotations))
    }
    wanted = {
        (task_id, annotation.id): (annotation, choices)
        for task_id, listed in annotations.items()
        for annotation, choices in counted_votes(listed, controls)
    }
    for key in rows.keys() - wanted.keys():
        session.delete(rows[key])
    for (task_id, number), (annotation, choices) in wanted.items():
        said = {storable(name): [storable(c) for c in each] for name, each in choices.items()}
        row = rows.get((task_id, number))
        if row is None:
            row = Vote(project_id=project_id, task_id=task_id, annotation_id=number, choices=said)
            session.add(row)
        row.annotator, row.seconds = annotation.completed_by, annotation.lead_time
        if row.choices != said:
            row.choices = said


def _write_images(
    session: Session,
    project_id: int,
    task: labelstudio.Task,
    controls: Sequence[Control],
    existing: Sequence[TaskImage],
) -> None:
    wanted = image_uris(task.data, controls)
    rows = {row.data_key: row for row in existing}
    for key in rows.keys() - wanted.keys():
        session.delete(rows[key])
    for key, uri in wanted.items():
        if key not in rows:
            rows[key] = TaskImage(project_id=project_id, task_id=task.id, data_key=key)
            rows[key].uri, rows[key].source = uri, source_key(uri)
            session.add(rows[key])
        elif rows[key].uri != uri:
            rows[key].uri, rows[key].source = uri, source_key(uri)


def _set_label(
    session: Session,
    row: Label,
    status: str,
    choices: Sequence[str],
    votes: int,
    detail: str,
) -> bool:
    """Write a label. True when what can be learned from it changed."""
    before = row.choices if row.status == AGREED else None
    after = list(choices) if status == AGREED else None
    row.status, row.votes, row.detail = status, votes, storable(detail)
    if list(choices) != row.choices:
        row.choices = list(choices)
    if status == GONE and row.learned is None:
        session.delete(row)
    return before != after


def _rows(
    session: Session,
    table: type[Row],
    column: InstrumentedAttribute[int],
    project_id: int,
    task_ids: Sequence[int],
) -> Iterator[Row]:
    for ids in _slices(task_ids):
        query = select(table).where(table.project_id == project_id, column.in_(ids))
        yield from session.scalars(query)


def _slices(ids: Sequence[int], size: int = 500) -> Iterable[Sequence[int]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
