"""Label Studio → tables: which tasks there are, which images they show, what people said of them.

A look compares and writes only differences, so looking twice changes nothing. Either a whole look
is committed or nothing of it. A trainer that fell silent while it looked writes nothing down: what
it found may be older than what its successor did.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from backend import labelstudio
from backend.errors import LabelConfigError, LabelStudioNotFound
from backend.label_config import Control, parse_label_config
from backend.labels import Annotation, labelled_at, task_labels
from backend.labelstudio import LabelStudio
from backend.store import Store
from backend.tables import Label, Project, Task, TaskImage

log = logging.getLogger(__name__)

Row = TypeVar("Row", Task, TaskImage, Label)
Fence = Callable[[Session], None]
"""Raises in a transaction where what was found out must not be written any more."""

OVERLAP = timedelta(seconds=30)
"""Label Studio dates a change before it commits it; this far back is looked at again."""
GONE = "gone"
AGREED = "agreed"


@dataclass(frozen=True)
class SyncReport:
    """What a look found: tasks seen, added and removed, labels that changed."""

    tasks: int
    added: int
    removed: int
    changed_labels: int


def controls_of(project: Project) -> tuple[Control, ...]:
    """The controls to learn; empty while the config has none or cannot be read."""
    try:
        return parse_label_config(project.label_config).controls
    except LabelConfigError:
        return ()


def unfenced(session: Session) -> None:
    """Let everything be written."""


def look_at_project(
    store: Store, client: LabelStudio, project_id: int, fence: Fence = unfenced
) -> bool:
    """Refresh title and config. True when the controls changed, so that all must be looked at."""
    try:
        remote = client.project(project_id)
    except LabelStudioNotFound:
        with store.write() as session:
            fence(session)
            project = session.get_one(Project, project_id)
            project.gone, project.looked_at = True, time.time()
        return False
    with store.write() as session:
        fence(session)
        project = session.get_one(Project, project_id)
        return set_config(project, remote.title, remote.label_config)


def set_config(project: Project, title: str, xml: str) -> bool:
    """Write title and config into the row. True when the controls changed.

    Then every label has to be read anew, and that stands in the row until it is done: whoever
    noticed the change, server or trainer, may not live long enough to see it through.
    """
    before = controls_of(project)
    project.gone = False
    project.title, project.label_config = title, xml
    try:
        after = parse_label_config(xml).controls
        project.config_problem = ""
    except LabelConfigError as error:
        after = ()
        project.config_problem = str(error)
    if before != after:
        project.compared_at = None
    return before != after


def look_at_everything(
    store: Store, client: LabelStudio, project_id: int, fence: Fence = unfenced
) -> SyncReport:
    """Compare every task and every annotation of a project with the tables."""
    started = time.time()
    look_at_project(store, client, project_id, fence)
    with store.read() as session:
        project = session.get_one(Project, project_id)
        controls = controls_of(project)
        if project.gone:
            return SyncReport(0, 0, 0, 0)
    # Annotations first: a task annotated between the two requests is then seen as unfinished
    # once more, and put right by its own hint, instead of being taken for finished but unlabelled.
    annotations = dict(client.annotated(project_id))
    tasks = list(client.tasks(project_id))
    with store.write() as session:
        fence(session)
        known = set(session.scalars(select(Task.id).where(Task.project_id == project_id)))
        seen = {task.id for task in tasks}
        _write_tasks(session, project_id, tasks, controls, annotations)
        _remove_tasks(session, project_id, known - seen)
        changed = _write_labels(
            session, project_id, controls, {t: annotations.get(t, []) for t in seen}
        )
        project = session.get_one(Project, project_id)
        project.looked_at = started
        # Labels of a config that changed meanwhile are those of the one before.
        project.compared_at = started if controls_of(project) == controls else None
        project.cursor = max((task.updated_at for task in tasks), default="")
    return SyncReport(len(seen), len(seen - known), len(known - seen), changed)


def look_at_changes(
    store: Store, client: LabelStudio, project_id: int, fence: Fence = unfenced
) -> SyncReport:
    """Compare what changed since the last look, which Label Studio dates; deletions too."""
    started = time.time()
    if look_at_project(store, client, project_id, fence):
        return look_at_everything(store, client, project_id, fence)
    with store.read() as session:
        project = session.get_one(Project, project_id)
        if project.gone:
            return SyncReport(0, 0, 0, 0)
        known = set(session.scalars(select(Task.id).where(Task.project_id == project_id)))
    if not project.cursor:
        return look_at_everything(store, client, project_id, fence)
    since = datetime.fromisoformat(project.cursor) - OVERLAP
    found = {task.id: (task, listed) for task, listed in client.changed_since(project_id, since)}
    present = client.task_ids(project_id)
    if unseen := present - known - found.keys():
        found |= client.task_annotations(project_id, sorted(unseen))
    report = _write_found(store, project_id, found, known - present, known, fence)
    newest = max((task.updated_at for task, _ in found.values()), default=project.cursor)
    with store.write() as session:
        fence(session)
        project = session.get_one(Project, project_id)
        project.looked_at, project.cursor = started, newest
    return report


def look_at_tasks(
    store: Store,
    client: LabelStudio,
    project_id: int,
    task_ids: Sequence[int],
    fence: Fence = unfenced,
) -> SyncReport:
    """Compare the named tasks with the tables; remove those that Label Studio does not have."""
    found = client.task_annotations(project_id, task_ids)
    with store.read() as session:
        query = select(Task.id).where(Task.project_id == project_id, Task.id.in_(task_ids))
        known = set(session.scalars(query))
    return _write_found(store, project_id, found, known - found.keys(), known, fence)


def source_key(uri: str) -> str:
    """Key of an image URI: its SHA-256."""
    return hashlib.sha256(uri.encode()).hexdigest()


def image_uris(data: Mapping[str, object], controls: Iterable[Control]) -> dict[str, str]:
    """Data key → image URI, for the images that the controls are about."""
    uris = {control.data_key: control.image_uri(data) for control in controls}
    return {key: uri for key, uri in uris.items() if uri}


def _write_found(
    store: Store,
    project_id: int,
    found: Mapping[int, tuple[labelstudio.Task, Sequence[Annotation]]],
    removed: set[int],
    known: set[int],
    fence: Fence,
) -> SyncReport:
    annotations = {task_id: listed for task_id, (_, listed) in found.items()}
    with store.write() as session:
        fence(session)
        controls = controls_of(session.get_one(Project, project_id))
        _write_tasks(session, project_id, [t for t, _ in found.values()], controls, annotations)
        _remove_tasks(session, project_id, removed)
        changed = _write_labels(session, project_id, controls, annotations)
    return SyncReport(len(found), len(found.keys() - known), len(removed), changed)


def _write_tasks(
    session: Session,
    project_id: int,
    tasks: Sequence[labelstudio.Task],
    controls: Sequence[Control],
    annotations: Mapping[int, Sequence[Annotation]],
) -> None:
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


def _remove_tasks(session: Session, project_id: int, task_ids: set[int]) -> None:
    for ids in _slices(sorted(task_ids)):
        for table, column in ((Task, Task.id), (TaskImage, TaskImage.task_id)):
            session.execute(delete(table).where(table.project_id == project_id, column.in_(ids)))
        labels = select(Label).where(Label.project_id == project_id, Label.task_id.in_(ids))
        for label in session.scalars(labels):
            _set_label(session, label, GONE, (), 0, "the task was deleted")


def _write_labels(
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
        session.get_one(Project, project_id).changed_at = time.time()
    return changed


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
    row.status, row.votes, row.detail = status, votes, detail
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
