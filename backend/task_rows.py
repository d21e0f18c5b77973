"""The rows of a project's tasks, of the images that they show and of what people said of them.

Only differences are written, so that writing the same once more changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.orm import Session

from backend import clock, labelstudio
from backend.label_config import Control
from backend.labels import Annotation, counted_votes, labelled_at, task_labels
from backend.tables import FirstAnswer, Label, Project, Task, TaskImage, Vote, storable

Item = TypeVar("Item")

GONE = "gone"
AGREED = "agreed"


@dataclass(frozen=True)
class Moves:
    """How many tasks are new, and how many in all are new, show another image or are in the queue
    again."""

    added: int = 0
    moved: int = 0

    def __add__(self, other: Moves) -> Moves:
        return Moves(self.added + other.added, self.moved + other.moved)


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
) -> Moves:
    """Write the tasks, and which images they show, with what was counted of their annotations."""
    moves = Moves()
    for some in _slices(tasks):
        ids = [task.id for task in some]
        rows = {row[0]: row[1:] for row in session.execute(_task_rows(project_id, ids))}
        shown: dict[int, dict[str, str]] = {}
        for task_id, key, uri in session.execute(_image_rows(project_id, ids)):
            shown.setdefault(task_id, {})[key] = uri
        new, images, changed = [], [], []
        for task in some:
            wanted, uris = _task_row(task, annotations), image_uris(task.data, controls)
            before = rows.get(task.id)
            if before is None:
                new.append({"project_id": project_id, "id": task.id, **wanted})
            elif before != tuple(wanted.values()):
                changed.append({"project_id": project_id, "id": task.id, **wanted})
            is_back = before is not None and before[0] and not task.is_labeled
            images += _write_images(session, project_id, task.id, shown.get(task.id, {}), uris)
            moved = before is None or is_back or uris != shown.get(task.id, {})
            moves += Moves(before is None, moved)
        for table, values in ((Task, new), (TaskImage, images)):
            if values:
                session.execute(insert(table), values)
        if changed:
            session.execute(update(Task), changed)
    return moves


def _task_rows(project_id: int, ids: Sequence[int]) -> Select[*tuple[Any, ...]]:
    """The numbers of tasks, and the columns of :func:`_task_row` in its order."""
    columns = (Task.is_labeled, Task.annotations, Task.skips, Task.labelled_at, Task.updated_at)
    return select(Task.id, *columns).where(Task.project_id == project_id, Task.id.in_(ids))


def _task_row(
    task: labelstudio.Task, annotations: Mapping[int, Sequence[Annotation]]
) -> dict[str, Any]:
    listed = annotations.get(task.id, ())
    skips = sum(annotation.was_cancelled for annotation in listed)
    return {
        "is_labeled": task.is_labeled,
        "annotations": sum(annotation.counts for annotation in listed),
        "skips": skips,
        "labelled_at": labelled_at(listed),
        "updated_at": task.updated_at,
    }


def _image_rows(project_id: int, ids: Sequence[int]) -> Select[int, str, str]:
    columns = (TaskImage.task_id, TaskImage.data_key, TaskImage.uri)
    return select(*columns).where(TaskImage.project_id == project_id, TaskImage.task_id.in_(ids))


def remove_tasks(session: Session, project_id: int, task_ids: set[int]) -> None:
    """Remove tasks and their images; of their labels those stay whose loss is to be learned."""
    for ids in _slices(sorted(task_ids)):
        session.execute(delete(Task).where(Task.project_id == project_id, Task.id.in_(ids)))
        for table in (TaskImage, Vote, FirstAnswer):
            of_tasks = (table.project_id == project_id, table.task_id.in_(ids))
            session.execute(delete(table).where(*of_tasks))
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
    for ids in _slices(list(annotations)):
        query = select(Label).where(Label.project_id == project_id, Label.task_id.in_(ids))
        for row in session.scalars(query):
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
    rows: dict[tuple[int, int], Vote] = {}
    for ids in _slices(list(annotations)):
        query = select(Vote).where(Vote.project_id == project_id, Vote.task_id.in_(ids))
        rows |= {(row.task_id, row.annotation_id): row for row in session.scalars(query)}
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
    task_id: int,
    before: Mapping[str, str],
    wanted: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Take away the rows of images that a task shows no longer; the rows that it lacks."""
    old = [key for key, uri in before.items() if wanted.get(key) != uri]
    if old:
        shown = (TaskImage.project_id == project_id, TaskImage.task_id == task_id)
        session.execute(delete(TaskImage).where(*shown, TaskImage.data_key.in_(old)))
    return [
        {
            "project_id": project_id,
            "task_id": task_id,
            "data_key": key,
            "uri": uri,
            "source": source_key(uri),
        }
        for key, uri in wanted.items()
        if before.get(key) != uri
    ]


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


def _slices(items: Sequence[Item], size: int = 500) -> Iterable[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
