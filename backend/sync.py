"""Label Studio → tables: which tasks there are, which images they show, what people said of them.

A look compares and writes only differences, so looking twice changes nothing. Either a whole look
is committed or nothing of it. A trainer that fell silent while it looked writes nothing down: what
it found may be older than what its successor did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend import clock, labelstudio
from backend.errors import LabelConfigError, LabelStudioNotFound
from backend.label_config import Control, parse_label_config
from backend.labels import Annotation
from backend.labelstudio import LabelStudio
from backend.store import Store
from backend.tables import Project, Task, storable
from backend.task_rows import remove_tasks, write_labels, write_tasks, write_votes

Fence = Callable[[Session], None]
"""Raises in a transaction where what was found out must not be written any more."""

OVERLAP = timedelta(seconds=30)
"""Label Studio dates a change before it commits it; this far back is looked at again."""


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
            project.gone, project.looked_at = True, clock.now()
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
    project.title, project.label_config = storable(title), storable(xml)
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
    started = clock.now()
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
        write_tasks(session, project_id, tasks, controls, annotations)
        remove_tasks(session, project_id, known - seen)
        listed = {t: annotations.get(t, []) for t in seen}
        changed = write_labels(session, project_id, controls, listed)
        write_votes(session, project_id, controls, listed)
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
    started = clock.now()
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
        write_tasks(session, project_id, [t for t, _ in found.values()], controls, annotations)
        remove_tasks(session, project_id, removed)
        changed = write_labels(session, project_id, controls, annotations)
        write_votes(session, project_id, controls, annotations)
    return SyncReport(len(found), len(found.keys() - known), len(removed), changed)
