"""The projects that this Tiebreak keeps: registering one, and reading how it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pydantic import ConfigDict, with_config
from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from backend import clock
from backend.finetunes import FineTuneJson, fine_tune_json, newest_fine_tune
from backend.hints import add_hint
from backend.orders import wanted_name
from backend.outlook_text import outlook_json
from backend.pool_counts import ImageCounts, image_counts
from backend.promises import count_automatic
from backend.store import Store
from backend.sync import controls_of, set_config
from backend.tables import (
    Label,
    Project,
    Task,
    TrainerProcess,
    Version,
    storable,
    version_name,
)
from backend.task_rows import AGREED
from backend.troubles import troubles_json
from backend.version_metrics import headline

TIED, OUTSIDE = "tied", "outside"


def register_project(
    store: Store, project_id: int, *, title: str = "", label_config: str | None = None
) -> None:
    """Begin to keep a project, or take note of its newer config."""
    with store.read() as session:
        known = session.scalar(select(Project.label_config).where(Project.id == project_id))
        if known is not None and label_config in (None, known):
            return
    with store.write() as session:
        project = session.get(Project, project_id)
        new = project is None
        if project is None:
            project = Project(id=project_id, connected_at=clock.now(), title=storable(title))
            session.add(project)
            session.flush()
        if label_config is not None:
            changed = set_config(project, title or project.title, label_config)
            new = new or changed
    if new:
        add_hint(store, project_id, "REGISTERED", None, train=False)


OUTSIDE_ADVICE = (
    "Put the choice back into the labelling config (as a choice's alias, to keep what people "
    "read), or annotate these tasks anew."
)


@with_config(ConfigDict(extra="forbid"))
class VersionJson(TypedDict):
    """A version as :func:`version_json` gives it."""

    version: str
    kept: bool
    reason: str
    labels: int
    backbone: str
    created_at: float
    metrics: dict[str, Any]
    serves: bool
    pruned: bool


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ControlStatus:
    """Labels of one control.

    ``outside`` are labels that do not fit the config, counted by the reason; ``outside_tasks``
    are the first 100 of their tasks, and ``advice`` is what to do about them.
    """

    name: str
    classes: list[str]
    multiple: bool
    labels: int
    tied: list[int]
    outside: list[str]
    outside_tasks: list[int]
    advice: str


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ProjectStatus:
    """How a project stands. ``labelled`` tasks are those that people have labelled; ``automatic``
    ones were labelled by Tiebreak alone, under a promise."""

    id: int
    title: str
    version: str
    order: str
    served: str
    tasks: int
    labelled: int
    unlabelled: int
    skipped: int
    automatic: int
    controls: list[ControlStatus]
    images: int
    embedded: int
    broken: int
    broken_images: list[tuple[int, str]]
    activity: str
    waiting: str
    error: str
    config_problem: str
    troubles: list[dict[str, Any]]
    trainer_alive: bool
    last_version: VersionJson | None
    audit_labels: int
    near_duplicates: int
    outlook: dict[str, Any]
    finetune: FineTuneJson | None

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def project_status(
    session: Session,
    project: Project,
    lease_seconds: float,
    count: Callable[[Session, int, str | None], ImageCounts] = image_counts,
) -> ProjectStatus:
    """Read how a project stands; ``count`` counts its images."""
    tasks = _count_tasks(session, project.id)
    newest = newest_version(session, project.id)
    champion = session.get(Version, (project.id, project.champion))
    learned = newest_version(session, project.id, refused_fine_tunes=False)
    serving = champion or newest
    counted = count(session, project.id, serving.backbone if serving else None)
    images = counted.images
    fine_tune = newest_fine_tune(session, project.id)
    return ProjectStatus(
        id=project.id,
        title=project.title,
        version=version_name(project.champion),
        order=wanted_name(session, project),
        served=project.served,
        tasks=tasks.all,
        labelled=tasks.labelled,
        unlabelled=tasks.unlabelled,
        skipped=tasks.skipped,
        automatic=count_automatic(session, project.id),
        controls=_control_statuses(session, project),
        images=images.images,
        embedded=images.embedded,
        broken=images.failed,
        broken_images=counted.broken,
        activity=project.activity,
        waiting=project.waiting,
        error=project.error,
        config_problem=project.config_problem,
        troubles=troubles_json(session, project.id),
        trainer_alive=trainer_alive(session, lease_seconds),
        last_version=version_json(newest, project.champion) if newest else None,
        audit_labels=_audit_labels(learned),
        near_duplicates=counted.near_duplicates,
        outlook=outlook_json(project, controls_of(project), champion, learned),
        finetune=fine_tune_json(fine_tune) if fine_tune else None,
    )


class _TaskCounts(NamedTuple):
    all: int
    labelled: int
    unlabelled: int
    skipped: int


def _count_tasks(session: Session, project_id: int) -> _TaskCounts:
    """All of them in one go through the tasks."""
    flags = (Task.annotations > 0, ~Task.is_labeled, and_(Task.skips > 0, Task.annotations == 0))
    counts = (func.count(case((flag, 1))) for flag in flags)
    query = select(func.count(), *counts).select_from(Task).where(Task.project_id == project_id)
    found = session.execute(query).one()
    return _TaskCounts(found[0], found[1], found[2], found[3])


def _audit_labels(version: Version | None) -> int:
    """On how many audit labels a version was measured; of several controls the one with the most.

    Counted when the version was trained, since the audit set cannot be drawn in a query."""
    measured = (version.metrics.get("measures") or {}) if version else {}
    return max((each.get("held_out", {}).get("n", 0) for each in measured.values()), default=0)


def trainer_alive(session: Session, lease_seconds: float) -> bool:
    """Whether any trainer showed a sign of life within the length of a lease."""
    newest = session.scalar(select(func.max(TrainerProcess.heartbeat_at)))
    return newest is not None and newest > clock.now() - lease_seconds


def version_json(version: Version, champion: int, *, whole: bool = False) -> VersionJson:
    """A version as plain values; ``serves`` when it is the champion.

    The metrics of every class, and the images that flipped, only where the ``whole`` is wanted.
    """
    return {
        "version": version_name(version.number),
        "kept": version.kept,
        "reason": version.reason,
        "labels": version.labels,
        "backbone": version.backbone,
        "created_at": version.created_at,
        "metrics": version.metrics if whole else headline(version.metrics),
        "serves": version.number == champion,
        "pruned": version.pruned,
    }


def newest_version(
    session: Session, project_id: int, *, refused_fine_tunes: bool = True
) -> Version | None:
    """The last version that was trained, kept or refused; on demand, without the fine-tunes that
    were refused."""
    query = select(Version).where(Version.project_id == project_id).order_by(Version.number.desc())
    if refused_fine_tunes:
        return session.scalars(query.limit(1)).first()
    rows = session.scalars(query)
    return next((row for row in rows if row.kept or "finetune" not in row.metrics), None)


def list_versions(session: Session, project_id: int) -> list[VersionJson]:
    """Every version of a project, the newest first, refused ones included."""
    query = select(Version).where(Version.project_id == project_id).order_by(Version.number.desc())
    champion = session.scalar(select(Project.champion).where(Project.id == project_id)) or 0
    return [version_json(version, champion) for version in session.scalars(query)]


def outside_labels(session: Session, project_id: int) -> int:
    """How many labels name choices that the labelling config does not have."""
    query = select(func.count()).select_from(Label)
    outside = query.where(Label.project_id == project_id, Label.status == OUTSIDE)
    return session.scalar(outside) or 0


def _control_statuses(session: Session, project: Project) -> list[ControlStatus]:
    statuses = []
    for control in controls_of(project):
        of_control = (Label.project_id == project.id, Label.control == control.name)
        agreed = session.scalar(
            select(func.count()).select_from(Label).where(*of_control, Label.status == AGREED)
        )
        tied = session.scalars(
            select(Label.task_id).where(*of_control, Label.status == TIED).limit(100)
        )
        outside = session.execute(
            select(Label.detail, func.count())
            .where(*of_control, Label.status == OUTSIDE)
            .group_by(Label.detail)
            .order_by(func.count().desc(), Label.detail)
        ).all()
        outside_tasks = session.scalars(
            select(Label.task_id)
            .where(*of_control, Label.status == OUTSIDE)
            .order_by(Label.task_id)
            .limit(100)
        )
        statuses.append(
            ControlStatus(
                name=control.name,
                classes=list(control.classes),
                multiple=control.multiple,
                labels=agreed or 0,
                tied=list(tied),
                outside=[f"{detail} ({n})" for detail, n in outside],
                outside_tasks=list(outside_tasks),
                advice=OUTSIDE_ADVICE if outside else "",
            )
        )
    return statuses
