"""How the promises of a project stand, under which Tiebreak accepted its own answers.

What Label Studio holds decides: an accepted answer stands while its annotation bears the promise's
mark, and no longer when a person has changed, confirmed or deleted it. Images that a promise left
to people as a check stand in the queue among the others, without a ticked choice; their labels may
contradict the promise, and then it is paused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, and_, distinct, func, select
from sqlalchemy.orm import Session

from backend.arrays import read_ints
from backend.auto_marks import run_of
from backend.batches import SQL_SLICE, batched_lists
from backend.labels import Annotation
from backend.tables import AutoLabel, AutoRun, Label, Task
from backend.task_rows import AGREED
from model.error_bounds import contradicted, error_bound
from model.percents import percent

ACCEPTING, DONE, PAUSED, UNDONE = "accepting", "done", "paused", "undone"
LIVE = (ACCEPTING, DONE)
"""A promise in one of these states is checked."""


@dataclass(frozen=True)
class RunStatus:
    """How a promise stands. ``accepted`` answers stand in Label Studio, ``changed`` further ones
    were changed, confirmed or deleted by people. ``checked`` of the images left to people have a
    label by now, ``check_errors`` of which differ from the version's answer; ``check_bound`` bounds
    their share.
    """

    run: int
    version: str
    state: str
    max_error: float
    confidence: float
    accepted: int
    changed: int
    checks: int
    checked: int
    check_errors: int
    check_bound: float
    reason: str


@dataclass(frozen=True, eq=False)
class Checks:
    """The images that live promises leave to people.

    ``runs``      numbers of those promises
    ``task_ids``  (n,) int64, ascending, answered ones too
    ``answered``  how many of them somebody has labelled or skipped
    ``served``    tasks that people have labelled since the first of those promises, these included
    """

    runs: tuple[int, ...]
    task_ids: NDArray[np.int64]
    answered: int
    served: int


def run_statuses(session: Session, project_id: int) -> list[RunStatus]:
    """How the promises of a project stand, those that were taken back left out."""
    query = select(AutoRun).where(AutoRun.project_id == project_id, AutoRun.state != UNDONE)
    return [_status(session, run) for run in session.scalars(query.order_by(AutoRun.id))]


def statuses_json(session: Session, project_id: int) -> list[dict[str, Any]]:
    """The promises of a project as plain values."""
    return [asdict(status) for status in run_statuses(session, project_id)]


def contradicted_runs(session: Session, project_id: int) -> list[AutoRun]:
    """The live promises that their checks contradict."""
    return [
        run
        for run in session.scalars(_live(select(AutoRun), project_id))
        if _contradicted(run, *_checked(session, run))
    ]


def pause_contradicted(session: Session, project_id: int) -> list[RunStatus]:
    """Pause each promise that its checks contradict; those that are paused now and were not."""
    paused = []
    for run in contradicted_runs(session, project_id):
        checked, errors = _checked(session, run)
        run.state = PAUSED
        run.reason = (
            f"People differ on {errors} of the {checked} images that were left to them as a "
            f"check; {percent(run.max_error)}% were promised at most."
        )
        paused.append(_status(session, run))
    return paused


def note_standing(
    session: Session, project_id: int, annotations: Mapping[int, Sequence[Annotation]]
) -> None:
    """Write down which accepted answers of these tasks stand, after what Label Studio holds."""
    runs = select(AutoRun.id).where(AutoRun.project_id == project_id, AutoRun.state != UNDONE)
    numbers, task_ids = list(session.scalars(runs)), list(annotations)
    if not numbers:
        return
    for some in batched_lists(task_ids, SQL_SLICE):
        rows = select(AutoLabel).where(
            AutoLabel.run_id.in_(numbers),
            AutoLabel.task_id.in_(some),
            AutoLabel.annotation_id.is_not(None),
        )
        for row in session.scalars(rows):
            row.left_out = row.run_id not in _runs_of(row.task_id, annotations[row.task_id])


def covered_tasks(session: Session, project_id: int) -> frozenset[int]:
    """The tasks that a promise speaks for, taken-back ones apart: accepted ones, those left to
    people as a check, and those of audit images that are as sure."""
    runs = select(AutoRun.id).where(AutoRun.project_id == project_id, AutoRun.state != UNDONE)
    # Where a person was first, or the task was gone, nothing was accepted.
    covered = AutoLabel.annotation_id.is_not(None) | ~AutoLabel.left_out
    query = select(AutoLabel.task_id).where(AutoLabel.run_id.in_(runs), covered)
    audit = session.scalars(select(AutoRun.audit).where(AutoRun.id.in_(runs)))
    return frozenset(session.scalars(query)).union(*audit)


def automatic_tasks(session: Session, project_id: int) -> NDArray[np.int64]:
    """(n,) int64, ascending: the tasks that nobody but Tiebreak itself has labelled."""
    query = _standing(select(AutoLabel.task_id).distinct(), project_id)
    return read_ints(session, query.order_by(AutoLabel.task_id))[:, 0]


def count_automatic(session: Session, project_id: int) -> int:
    """How many tasks these are."""
    query = _standing(select(func.count(distinct(AutoLabel.task_id))), project_id)
    return session.scalar(query) or 0


def learnable_answers(session: Session, project_id: int, control: str) -> dict[int, str]:
    """Task → Tiebreak's own answer, where nobody else has labelled it, of the promises that hold
    and are through with accepting; a paused one teaches nothing."""
    query = _standing(select(AutoLabel.task_id, AutoLabel.choice), project_id)
    kept = query.where(AutoRun.state == DONE, AutoRun.control == control)
    rows = session.execute(kept.order_by(AutoRun.id))
    return {task_id: choice for task_id, choice in rows}  # noqa: C416


def promises_with_checks(session: Session, project_id: int) -> tuple[int, ...]:
    """Numbers of the live promises that leave images to people, ascending."""
    some = select(AutoLabel.run_id).where(AutoLabel.run_id == AutoRun.id, AutoLabel.check)
    query = _live(select(AutoRun.id), project_id).where(some.exists())
    return tuple(session.scalars(query.order_by(AutoRun.id)))


def checks_of(session: Session, project_id: int) -> Checks:
    """The images that the live promises of a project leave to people."""
    runs = promises_with_checks(session, project_id)
    if not runs:
        return Checks((), np.zeros(0, dtype=np.int64), 0, 0)
    check = (AutoLabel.run_id.in_(runs), AutoLabel.check)
    ids = select(AutoLabel.task_id).distinct().where(*check).order_by(AutoLabel.task_id)
    done = (Task.project_id == project_id, (Task.annotations > 0) | (Task.skips > 0))
    answered = select(func.count(distinct(Task.id))).join(
        AutoLabel, and_(AutoLabel.task_id == Task.id, *check)
    )
    since = select(func.min(AutoRun.created_at)).where(AutoRun.id.in_(runs)).scalar_subquery()
    served = select(func.count()).select_from(Task).where(*done, Task.labelled_at >= since)
    count = session.scalar(answered.where(*done)) or 0
    return Checks(runs, read_ints(session, ids)[:, 0], count, session.scalar(served) or 0)


def check_tasks(session: Session, project_id: int) -> frozenset[int]:
    """The tasks that the live promises of a project leave to people, answered ones too."""
    return frozenset(checks_of(session, project_id).task_ids.tolist())


def _runs_of(task_id: int, annotations: Sequence[Annotation]) -> set[int | None]:
    return {run_of(task_id, each.result) for each in annotations if each.automatic}


def _live(query: Select[Any], project_id: int) -> Select[Any]:
    return query.where(AutoRun.project_id == project_id, AutoRun.state.in_(LIVE))


def _standing(query: Select[*tuple[Any, ...]], project_id: int) -> Select[*tuple[Any, ...]]:
    """Accepted answers that stand, on tasks that no person has labelled."""
    of_task = and_(Task.project_id == AutoRun.project_id, Task.id == AutoLabel.task_id)
    joined = query.join(AutoRun, AutoRun.id == AutoLabel.run_id).join(Task, of_task)
    mine = (AutoRun.project_id == project_id, AutoRun.state != UNDONE)
    return joined.where(*mine, *_accepted(), Task.annotations == 0)


def _accepted() -> tuple[ColumnElement[bool], ...]:
    return AutoLabel.annotation_id.is_not(None), ~AutoLabel.left_out


def _checked(session: Session, run: AutoRun) -> tuple[int, int]:
    """How many check images have a label, and how many of these differ from the answer."""
    said = session.execute(
        select(AutoLabel.choice, Label.choices)
        .join(
            Label,
            (Label.project_id == run.project_id)
            & (Label.task_id == AutoLabel.task_id)
            & (Label.control == run.control)
            & (Label.status == AGREED),
        )
        .where(AutoLabel.run_id == run.id, AutoLabel.check)
    ).all()
    return len(said), sum(choices != [choice] for choice, choices in said)


def _contradicted(run: AutoRun, checked: int, errors: int) -> bool:
    return contradicted(errors, checked, run.max_error, run.confidence)


def _status(session: Session, run: AutoRun) -> RunStatus:
    of_run = select(func.count()).select_from(AutoLabel).where(AutoLabel.run_id == run.id)
    sent = session.scalar(of_run.where(AutoLabel.annotation_id.is_not(None))) or 0
    accepted = session.scalar(of_run.where(*_accepted())) or 0
    checks = session.scalar(of_run.where(AutoLabel.check)) or 0
    checked, errors = _checked(session, run)
    return RunStatus(
        run.id,
        f"v{run.version}",
        run.state,
        run.max_error,
        run.confidence,
        accepted,
        sent - accepted,
        checks,
        checked,
        errors,
        error_bound(errors, checked, run.confidence),
        run.reason,
    )
