"""The figures that the database knows, read when somebody asks for them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from backend import clock
from backend.promises import ACCEPTING, DONE, PAUSED, UNDONE, count_automatic
from backend.store import Store
from backend.tables import (
    AutoRun,
    Hint,
    Label,
    Lease,
    Order,
    Project,
    Task,
    TrainerProcess,
    Trouble,
    Version,
)
from backend.task_rows import AGREED
from model.errors import StorageError

log = logging.getLogger(__name__)

PROJECT = ("project",)
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tiebreak_database_up": ("Whether the database could be read", ()),
    "tiebreak_projects": ("Projects, by how they stand", ("state",)),
    "tiebreak_project_failures": ("Failures in a row of a project's steps", PROJECT),
    "tiebreak_queue_tasks": (
        "Unlabelled tasks, by whether the newest order was pushed for them",
        ("project", "pushed"),
    ),
    "tiebreak_labels": ("Labels to learn from", PROJECT),
    "tiebreak_labels_waiting": ("Labels changed since the last training", PROJECT),
    "tiebreak_automatic_labels": ("Tasks that only Tiebreak itself has labelled", PROJECT),
    "tiebreak_promises": ("Promises of automatic labels, by state", ("project", "state")),
    "tiebreak_champion_version": ("Number of the version that serves", PROJECT),
    "tiebreak_versions": ("Versions trained, by what the gate said", ("project", "outcome")),
    "tiebreak_hints_waiting": ("Hints that no trainer has followed yet", PROJECT),
    "tiebreak_oldest_hint_age_seconds": ("Seconds since the oldest of them", PROJECT),
    "tiebreak_lease_held": ("Whether a trainer works on the project right now", PROJECT),
    "tiebreak_lease_heartbeat_age_seconds": (
        "Seconds since the last sign of life of the trainer that holds the lease",
        PROJECT,
    ),
    "tiebreak_trainers": ("Trainers that show signs of life", ()),
    "tiebreak_trainer_heartbeat_age_seconds": (
        "Seconds since the last sign of life of any trainer",
        (),
    ),
}
"""Name of each figure → what it means, and its labels."""

Sample = tuple[str, tuple[str, ...], float]


class DatabaseFigures(Collector):
    """Reads the figures of the database; one that cannot be read is told of by its own figure.

    Args:
        lease_seconds: silence after which a trainer counts as gone.
    """

    def __init__(self, store: Store, lease_seconds: float) -> None:
        self._store = store
        self._lease_seconds = lease_seconds

    def collect(self) -> Iterable[Metric]:
        """The figures of now."""
        families = {
            name: GaugeMetricFamily(name, meaning, labels=labels)
            for name, (meaning, labels) in FAMILIES.items()
        }
        try:
            with self._store.read() as session:
                samples = [*_figures(session), *self._trainers(session)]
        except (SQLAlchemyError, StorageError):
            log.exception("the database could not be read")
            samples = [("tiebreak_database_up", (), 0.0)]
        else:
            samples.append(("tiebreak_database_up", (), 1.0))
        for name, labels, value in samples:
            families[name].add_metric(labels, value)
        return families.values()

    def _trainers(self, session: Session) -> Iterator[Sample]:
        now = clock.now()
        held = {lease.project_id: lease.heartbeat_at for lease in session.scalars(select(Lease))}
        for project_id in session.scalars(select(Project.id)):
            at = held.get(project_id)
            fresh = at is not None and at > now - self._lease_seconds
            yield "tiebreak_lease_held", (str(project_id),), float(fresh)
            if at is not None:
                age = max(now - at, 0.0)
                yield "tiebreak_lease_heartbeat_age_seconds", (str(project_id),), age
        beats = session.scalars(select(TrainerProcess.heartbeat_at)).all()
        alive = sum(at > now - self._lease_seconds for at in beats)
        yield "tiebreak_trainers", (), float(alive)
        if beats:
            yield "tiebreak_trainer_heartbeat_age_seconds", (), max(now - max(beats), 0.0)


def _figures(session: Session) -> Iterator[Sample]:
    yield from _projects(session)
    yield from _work(session)
    yield from _automatic(session)


def _state(project: Project, parked: Collection[int]) -> str:
    if project.gone:
        return "gone"
    if project.error:
        return "failing"
    return "parked" if project.id in parked else "working"


def _projects(session: Session) -> Iterator[Sample]:
    states = dict.fromkeys(("working", "failing", "parked", "gone"), 0)
    parked = set(session.scalars(select(Trouble.project_id).where(Trouble.parked_at.is_not(None))))
    for project in session.scalars(select(Project)):
        states[_state(project, parked)] += 1
        number = (str(project.id),)
        yield "tiebreak_project_failures", number, float(project.failures)
        yield "tiebreak_champion_version", number, float(project.champion)
    for state, count in states.items():
        yield "tiebreak_projects", (state,), float(count)
    versions = select(Version.project_id, Version.kept, func.count())
    for project_id, kept, count in session.execute(
        versions.group_by(Version.project_id, Version.kept)
    ):
        outcome = "kept" if kept else "refused"
        yield "tiebreak_versions", (str(project_id), outcome), float(count)


def _work(session: Session) -> Iterator[Sample]:
    """What there is to do: tasks to be labelled, labels to be learned, hints to be followed."""
    for project_id, pushed, rest in session.execute(_queue_depths()):
        yield "tiebreak_queue_tasks", (str(project_id), "yes"), float(pushed)
        yield "tiebreak_queue_tasks", (str(project_id), "no"), float(rest)
    agreed = Label.status == AGREED
    changed = cast(Label.choices, Text) != cast(Label.learned, Text)
    waiting = case(
        (agreed, or_(Label.learned.is_(None), changed)), else_=Label.learned.is_not(None)
    )
    counts = select(Label.project_id, _count(agreed), _count(waiting)).group_by(Label.project_id)
    for project_id, labels, unlearned in session.execute(counts):
        yield "tiebreak_labels", (str(project_id),), float(labels)
        yield "tiebreak_labels_waiting", (str(project_id),), float(unlearned)
    hints = select(Hint.project_id, func.count(), func.min(Hint.created_at))
    for project_id, count, oldest in session.execute(hints.group_by(Hint.project_id)):
        age = max(clock.now() - oldest, 0.0)
        yield "tiebreak_hints_waiting", (str(project_id),), float(count)
        yield "tiebreak_oldest_hint_age_seconds", (str(project_id),), age


def _automatic(session: Session) -> Iterator[Sample]:
    """How many answers were accepted and stand, and how their promises do."""
    counts = select(AutoRun.project_id, AutoRun.state, func.count()).where(AutoRun.state != UNDONE)
    promises: dict[int, dict[str, int]] = {}
    for project_id, state, count in session.execute(
        counts.group_by(AutoRun.project_id, AutoRun.state)
    ):
        promises.setdefault(project_id, {})[state] = count
    for project_id in session.scalars(select(Project.id)):
        number, found = (str(project_id),), promises.get(project_id, {})
        accepted = count_automatic(session, project_id) if found else 0
        yield "tiebreak_automatic_labels", number, float(accepted)
        for state in (ACCEPTING, DONE, PAUSED):
            yield "tiebreak_promises", (*number, state), float(found.get(state, 0))


def _queue_depths() -> Select[int, int, int]:
    """Project → unlabelled tasks that carry the champion's newest order, and that do not."""
    newest = (
        select(Order.project_id, Order.version, func.max(Order.number).label("number"))
        .group_by(Order.project_id, Order.version)
        .subquery()
    )
    pushed = and_(
        Task.pushed_score.is_not(None),
        Task.pushed_version == Project.champion,
        Task.pushed_order == newest.c.number,
    )
    return (
        select(Task.project_id, _count(pushed), func.count() - _count(pushed))
        .join(Project, Project.id == Task.project_id)
        .outerjoin(
            newest,
            and_(newest.c.project_id == Project.id, newest.c.version == Project.champion),
        )
        .where(~Task.is_labeled)
        .group_by(Task.project_id)
    )


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows a condition holds for; one that is unknown does not hold."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
