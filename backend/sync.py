"""Label Studio → tables: which tasks there are, which images they show, what people said of them.

A look compares and writes only differences, so looking twice changes nothing. A look at everything
is committed some thousand tasks at a time, and that it was made, at its end: one that is cut short
is made again. Any other is committed whole or not at all. A trainer that fell silent while it
looked writes nothing down: what it found may be older than what its successor did.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend import clock, labelstudio
from backend.arrays import read_ints
from backend.errors import LabelConfigError, LabelStudioNotFound
from backend.first_answers import write_first_answers
from backend.label_config import Control, parse_label_config, readable_controls
from backend.labels import Annotation
from backend.labelstudio import LabelStudio
from backend.promises import note_standing
from backend.store import Store
from backend.tables import Project, Task, storable
from backend.task_rows import Moves, remove_tasks, write_labels, write_tasks, write_votes

Item = TypeVar("Item")

Fence = Callable[[Session], None]
"""Raises in a transaction where what was found out must not be written any more."""

AT_ONCE = 5_000
"""Tasks that are compared and committed together."""
OVERLAP = timedelta(seconds=30)
"""Label Studio dates a change before it commits it; this far back is looked at again."""


@dataclass(frozen=True)
class SyncReport:
    """What a look found: tasks seen, added and removed, labels that changed.

    ``moved``: how many tasks were added or removed, show another image, or are in the queue again.
    ``remote``: the project, where it was looked at.
    """

    tasks: int
    added: int
    removed: int
    changed_labels: int
    moved: int = 0
    remote: labelstudio.Project | None = None


def controls_of(project: Project) -> tuple[Control, ...]:
    """The controls to learn; empty while the config has none or cannot be read."""
    return readable_controls(project.label_config)


def unfenced(session: Session) -> None:
    """Let everything be written."""


@dataclass(frozen=True)
class ProjectLook:
    """A project as Label Studio has it, None where it is gone; ``changed``: the controls changed,
    so that all must be looked at."""

    remote: labelstudio.Project | None
    changed: bool = False


def look_at_project(
    store: Store, client: LabelStudio, project_id: int, fence: Fence = unfenced
) -> ProjectLook:
    """Refresh title and config."""
    try:
        remote = client.project(project_id)
    except LabelStudioNotFound:
        with store.write() as session:
            fence(session)
            project = session.get_one(Project, project_id)
            project.gone, project.looked_at = True, clock.now()
        return ProjectLook(None)
    with store.write() as session:
        fence(session)
        project = session.get_one(Project, project_id)
        return ProjectLook(remote, set_config(project, remote.title, remote.label_config))


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
    store: Store,
    client: LabelStudio,
    project_id: int,
    fence: Fence = unfenced,
    seen_now: ProjectLook | None = None,
) -> SyncReport:
    """Compare every task and every annotation of a project with the tables; ``seen_now`` is what
    :func:`look_at_project` has just found."""
    started = clock.now()
    seen_now = seen_now or look_at_project(store, client, project_id, fence)
    with store.read() as session:
        project = session.get_one(Project, project_id)
        controls = controls_of(project)
        if project.gone:
            return SyncReport(0, 0, 0, 0)
    # Annotations first: a task annotated between the two requests is then seen as unfinished
    # once more, and put right by its own hint, instead of being taken for finished but unlabelled.
    annotations = dict(client.annotated(project_id))
    seen, newest, changed, moves = [np.zeros(0, dtype=np.int64)], "", 0, Moves()
    for tasks in _batches(client.tasks(project_id), AT_ONCE):
        seen.append(np.array([task.id for task in tasks], dtype=np.int64))
        newest = max(newest, *(task.updated_at for task in tasks))
        with store.write() as session:
            fence(session)
            moves += write_tasks(session, project_id, tasks, controls, annotations)
            listed = {task.id: annotations.get(task.id, []) for task in tasks}
            changed += write_labels(session, project_id, controls, listed)
            write_votes(session, project_id, controls, listed)
            note_standing(session, project_id, listed)
            write_first_answers(session, project_id, controls, listed)
    with store.write() as session:
        fence(session)
        query = select(Task.id).where(Task.project_id == project_id).order_by(Task.id)
        known, there = read_ints(session, query)[:, 0], np.concatenate(seen)
        gone = np.setdiff1d(known, there)
        remove_tasks(session, project_id, set(gone.tolist()))
        note_standing(session, project_id, dict.fromkeys(gone.tolist(), ()))
        project = session.get_one(Project, project_id)
        project.looked_at = started
        # Labels of a config that changed meanwhile are those of the one before.
        project.compared_at = started if controls_of(project) == controls else None
        project.cursor = newest
    moved = moves.moved + len(gone)
    return SyncReport(len(there), moves.added, len(gone), changed, moved, seen_now.remote)


def look_at_changes(
    store: Store, client: LabelStudio, project_id: int, fence: Fence = unfenced
) -> SyncReport:
    """Compare what changed since the last look, which Label Studio dates; deletions too."""
    started = clock.now()
    seen_now = look_at_project(store, client, project_id, fence)
    if seen_now.changed:
        return look_at_everything(store, client, project_id, fence, seen_now)
    if seen_now.remote is None:
        return SyncReport(0, 0, 0, 0)
    with store.read() as session:
        project = session.get_one(Project, project_id)
        query = select(Task.id).where(Task.project_id == project_id)
        known = read_ints(session, query)[:, 0]
    if not project.cursor:
        return look_at_everything(store, client, project_id, fence, seen_now)
    since = datetime.fromisoformat(project.cursor) - OVERLAP
    found = {task.id: (task, listed) for task, listed in client.changed_since(project_id, since)}
    removed = set[int]()
    new = len(found) - int(np.isin(list(found), known).sum())
    # As many as there are: then nothing was deleted, and nobody has to list a million numbers.
    if len(known) + new != seen_now.remote.task_number:
        present, before = client.task_ids(project_id), set(known.tolist())
        removed = before - present
        if unseen := present - before - found.keys():
            found |= client.task_annotations(project_id, sorted(unseen))
    report = _write_found(store, project_id, found, removed, fence)
    newest = max((task.updated_at for task, _ in found.values()), default=project.cursor)
    with store.write() as session:
        fence(session)
        project = session.get_one(Project, project_id)
        project.looked_at, project.cursor = started, newest
    return replace(report, remote=seen_now.remote)


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
    return _write_found(store, project_id, found, known - found.keys(), fence)


def _write_found(
    store: Store,
    project_id: int,
    found: Mapping[int, tuple[labelstudio.Task, Sequence[Annotation]]],
    removed: set[int],
    fence: Fence,
) -> SyncReport:
    annotations = {task_id: listed for task_id, (_, listed) in found.items()}
    with store.write() as session:
        fence(session)
        controls = controls_of(session.get_one(Project, project_id))
        tasks = [task for task, _ in found.values()]
        moves = write_tasks(session, project_id, tasks, controls, annotations)
        remove_tasks(session, project_id, removed)
        changed = write_labels(session, project_id, controls, annotations)
        write_votes(session, project_id, controls, annotations)
        note_standing(session, project_id, {**annotations, **dict.fromkeys(removed, ())})
        write_first_answers(session, project_id, controls, annotations)
    moved = moves.moved + len(removed)
    return SyncReport(len(found), moves.added, len(removed), changed, moved)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to ``size`` of the items, in order."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
