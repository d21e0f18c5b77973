"""The command ``tiebreak auto-label``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli_project import ProjectArgument, find_project, open_store
from backend.command import Json, command, errors
from backend.errors import LabelStudioError, SetupError
from backend.settings import Settings, label_studio_access, load_settings
from model.percents import percent
from model.plurals import counted

if TYPE_CHECKING:
    from backend.auto_plan import Plan
    from backend.experiment_progress import ExperimentProgress
    from backend.labelstudio import LabelStudio
    from backend.store import Store

app = typer.Typer()
NEAREST = 5


@app.command("auto-label")
@command
def auto_label(
    project: ProjectArgument,
    max_error: Annotated[
        float, typer.Option("--max-error", help="Largest share of wrong ones among the accepted.")
    ] = 0.02,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Chance that the promise holds.")
    ] = 0.95,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Promise it of each predicted class by itself.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Accept, or only show what would be accepted.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Delete what was accepted and nobody has touched since.")
    ] = False,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Accept what the version is sure of, with a bounded share of wrong ones."""
    from backend.labelstudio import LabelStudio

    if undo and yes:
        raise SetupError("That cannot be asked in one go.", mend="Give --undo or --yes.")
    for name, value in (("--max-error", max_error), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise SetupError(f"{name} is {value:g}.", mend="Give a number between 0 and 1.")
    settings = load_settings()
    url, api_key = label_studio_access(settings)
    store = open_store(settings)
    row = find_project(store, project)
    asked = _Asked(row.id, max_error, confidence, per_class)
    with LabelStudio(url, api_key, settings.label_studio_timeout) as client:
        if undo:
            found = _undo(store, client, row.id)
        elif yes:
            found = _accept(store, client, settings, asked)
        else:
            found = _show(store, settings, asked)
    if not as_json:
        print("\n".join(found["lines"]))
    return {name: value for name, value in found.items() if name != "lines"}


@dataclass(frozen=True)
class _Asked:
    """What a promise is asked for."""

    project_id: int
    max_error: float
    confidence: float
    per_class: bool


def _undo(store: Store, client: LabelStudio, project_id: int) -> dict[str, Any]:
    from backend.auto_label import take_back
    from backend.experiment_progress import ExperimentProgress

    with ExperimentProgress(errors) as progress:
        progress.tell("looking for what was accepted", 0, 0)
        try:
            count = take_back(store, client, project_id, partial(progress.tell, "taking back"))
        except LabelStudioError:
            progress.say("Nothing more is accepted. The same command goes on taking back.")
            raise
    line = (
        "1 annotation was deleted; that task is unlabelled again."
        if count == 1
        else f"{count:,} annotations were deleted; those tasks are unlabelled again."
    )
    return {"deleted": count, "lines": [line if count else "No accepted answer was left."]}


def _plan(store: Store, settings: Settings, asked: _Asked) -> Plan:
    from backend.auto_plan import make_plan
    from backend.tables import Project
    from backend.versions import get_version, load_version

    with store.read() as session:
        project = session.get_one(Project, asked.project_id)
        if not project.champion:
            raise SetupError("Nothing is learned yet.", mend="Label images of two classes first.")
        version = get_version(session, project.id, project.champion)
        artifact = load_version(settings, project.id, version)
        return make_plan(
            session,
            project,
            artifact,
            settings,
            max_error=asked.max_error,
            confidence=asked.confidence,
            per_class=asked.per_class,
        )


def _show(store: Store, settings: Settings, asked: _Asked) -> dict[str, Any]:
    from backend.experiment_progress import ExperimentProgress
    from backend.promises import pause_contradicted, statuses_json

    with ExperimentProgress(errors) as progress:
        progress.tell("asking the version about every image", 0, 0)
        plan = _plan(store, settings, asked)
    with store.write() as session:
        pause_contradicted(session, asked.project_id)
        runs = statuses_json(session, asked.project_id)
    promises = [asdict(promise) for promise in plan.promises]
    if asked.per_class:
        named = zip(plan.classes, promises, strict=True)
        promises = [{"class": name, **promise} for name, promise in named]
    return {
        "project": asked.project_id,
        "version": f"v{plan.version}",
        "max_error": asked.max_error,
        "confidence": asked.confidence,
        "promises": promises,
        "accepted": [asdict(one) for one in plan.accepted],
        "checks": [asdict(one) for one in plan.checks],
        "nearest_above": [asdict(one) for one in plan.accepted[:NEAREST]],
        "nearest_below": [asdict(one) for one in plan.below[:NEAREST]],
        "runs": runs,
        "lines": [*_lines(plan, asked.max_error, asked.confidence), *_run_lines(runs)],
    }


def _lines(plan: Plan, max_error: float, confidence: float) -> list[str]:
    shown = [
        f"v{plan.version}, at most {percent(max_error)}% wrong with {percent(confidence)}% "
        f"confidence: {counted(len(plan.accepted), 'task')} would be accepted, "
        f"{len(plan.checks):,} more left to people as a check."
    ]
    single = len(plan.promises) == 1
    for name, promise in zip([""] if single else plan.classes, plan.promises, strict=True):
        shown.append(f"{name}: {promise.reason}" if name else promise.reason)
    promised = any(promise.threshold is not None for promise in plan.promises)
    below = "not sure enough" if promised else "surest, but not promised"
    for title, some in (("just sure enough", plan.accepted), (below, plan.below)):
        for one in some[:NEAREST]:
            shown.append(f"  {title}: task {one.task_id}, {one.choice} {one.sureness:.1%}")
    if plan.accepted:
        shown.append("Nothing was written. Accept them with --yes; take them back with --undo.")
    return shown


def _run_lines(runs: list[dict[str, Any]]) -> list[str]:
    return [
        f"Promise {run['run']} ({run['version']}, {percent(run['max_error'])}%): {run['state']}, "
        f"{run['accepted']} accepted, {run['changed']} changed by people since, "
        f"{run['checked']} of {run['checks']} checks labelled, {run['check_errors']} of them "
        f"differ. {run['reason']}".rstrip()
        for run in runs
    ]


def _accept(store: Store, client: LabelStudio, settings: Settings, asked: _Asked) -> dict[str, Any]:
    from backend.auto_label import Accepting
    from backend.experiment_progress import ExperimentProgress
    from backend.lease import owner_name
    from backend.promises import statuses_json

    # What would fail at the first answer fails before a promise is written down.
    client.project(asked.project_id)
    with ExperimentProgress(errors) as progress:
        run_id = _open_run(store, settings, asked, progress)
        work = Accepting(store, client, run_id, owner_name(), settings.lease_seconds)
        try:
            work.work(partial(progress.tell, "accepting"))
        except LabelStudioError:
            progress.say("What was accepted so far stands. The same command goes on with the rest.")
            raise
    with store.read() as session:
        runs = statuses_json(session, asked.project_id)
    undo = f"Take everything back with: tiebreak auto-label {asked.project_id} --undo"
    lines = [*_run_lines(runs), undo]
    return {"project": asked.project_id, "run": run_id, "runs": runs, "lines": lines}


def _open_run(store: Store, settings: Settings, asked: _Asked, progress: ExperimentProgress) -> int:
    """The promise that was not finished, or else a new one."""
    from backend.auto_label import begin_run, open_run
    from backend.promises import pause_contradicted

    with store.write() as session:
        pause_contradicted(session, asked.project_id)
        before = open_run(session, asked.project_id)
        if before:
            progress.say(
                f"Promise {before.id}, of at most {percent(before.max_error)}% wrong, was not "
                "finished; it is gone on with."
            )
            return before.id
    progress.tell("asking the version about every image", 0, 0)
    plan = _plan(store, settings, asked)
    with store.write() as session:
        made = begin_run(session, asked.project_id, plan, asked.max_error, asked.confidence)
        return made.id
