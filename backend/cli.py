"""The command ``tiebreak``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from sqlalchemy import select

from backend.cli_experiments import app as experiments
from backend.cli_password import app as passwords
from backend.cli_simulate import app as simulations
from backend.command import Json, errors
from backend.command import command as _command
from backend.command import escaped as _escaped
from backend.errors import SetupError
from backend.labelstudio import LabelStudio
from backend.logs import configure_logging
from backend.projects import list_versions, project_status, trainer_alive
from backend.secrets import log_in_hint
from backend.settings import Settings, label_studio_access, load_settings
from backend.status_text import print_status
from backend.store import Store
from backend.tables import Project

if TYPE_CHECKING:
    from backend.versions import Promotion

app = typer.Typer(
    name="tiebreak",
    help="The machine-learning backend that Label Studio teams connect to label images sooner.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ProjectArgument = Annotated[
    str, typer.Argument(metavar="PROJECT", help="Number or title of a Label Studio project.")
]


@app.command()
@_command
def up(
    images: Annotated[
        Path | None, typer.Option(help="Folder with your own images; the digits if left out.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Classes to choose from, as in cat,dog. Needed with --images."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the project to label.")] = None,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Start everything and keep it running until ctrl-c: Label Studio (unless LABEL_STUDIO_URL is
    set), the backend, the trainer, and a project to label."""
    from backend.up import run_up

    settings = load_settings()
    listed = [name.strip() for name in classes.split(",") if name.strip()] if classes else None
    code = run_up(
        settings, images=images, classes=listed, title=title, console=errors, as_json=as_json
    )
    raise typer.Exit(code)


@app.command()
@_command
def serve(as_json: Json = False) -> dict[str, Any] | None:
    """Run the backend, the server that Label Studio connects to."""
    settings = load_settings()
    label_studio_access(settings)
    if as_json:
        print(json.dumps({"url": settings.backend_url}), flush=True)
    config = Path(__file__).with_name("gunicorn.conf.py")
    command = [sys.executable, "-m", "gunicorn", "--config", str(config), "backend.wsgi:app"]
    os.execv(sys.executable, command)  # noqa: S606 - a fixed program, no shell


@app.command()
@_command
def trainer(as_json: Json = False) -> dict[str, Any] | None:
    """Run a trainer, the process that learns and keeps Label Studio's queue in order."""
    settings = load_settings()
    configure_logging(settings, "trainer")
    from backend.metrics_files import begin_run, share_counts
    from backend.trainer import run_trainer

    begin_run(settings.data_dir, "trainer")
    share_counts()

    if as_json:
        print(json.dumps({"pid": os.getpid()}), flush=True)
    run_trainer(settings)
    return None


@app.command()
@_command
def connect(project: ProjectArgument, as_json: Json = False) -> dict[str, Any] | None:
    """Connect a Label Studio project: backend, webhook, queue tab and sampling. Safe to repeat."""
    from backend.connect import connect_project

    settings = load_settings()
    url, api_key = label_studio_access(settings)
    client = LabelStudio(url, api_key, settings.label_studio_timeout)
    found = client.find_project(project)
    report = connect_project(
        settings, client, found.id, say=lambda line: errors.print(f"  {_escaped(line)}")
    )
    if not as_json:
        for line in report.warnings:
            errors.print(f"[yellow]![/] {_escaped(line)}")
        errors.print(
            f"Project {found.id} “{_escaped(found.title)}” is connected. Press “{report.button}” at"
        )
        print(report.label_url)
        errors.print(_escaped(f"The page {report.backend_url}/ wants {log_in_hint(settings)}."))
    return asdict(report)


@app.command()
@_command
def status(
    project: Annotated[
        str | None, typer.Argument(metavar="[PROJECT]", help="Number or title; all if left out.")
    ] = None,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Show what is, what is wanted, and what it waits for."""
    settings = load_settings()
    store = _store(settings)
    with store.read() as session:
        query = select(Project).order_by(Project.id)
        rows = [_find(store, project)] if project else list(session.scalars(query))
        statuses = [project_status(session, row, settings.lease_seconds) for row in rows]
        alive = trainer_alive(session, settings.lease_seconds)
    if not as_json:
        print_status(statuses, alive, settings.data_dir)
        errors.print(_escaped(f"The page {settings.backend_url}/ wants {log_in_hint(settings)}."))
    return {"trainer_alive": alive, "projects": [s.as_json() for s in statuses]}


@app.command()
@_command
def train(
    project: ProjectArgument,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Fine-tune the backbone too, due or not.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give up the fine-tune that is under way.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Learn from all labels now, without waiting for more of them."""
    from backend.cli_train import cancel_now, fine_tune_now, train_now

    if finetune and cancel:
        raise SetupError("That cannot be asked in one go.", mend="Give --finetune or --cancel.")
    settings = load_settings()
    store = _store(settings)
    row = _find(store, project)
    work = cancel_now if cancel else fine_tune_now if finetune else train_now
    outcome = work(store, settings, row.id, wait=wait, console=errors)
    if not as_json:
        print(outcome["sentence"])
    return outcome


@app.command()
@_command
def versions(
    project: ProjectArgument,
    version: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VERSION] [VERSION]", help="Show one, as in v3, or compare two."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the files of versions that nothing needs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --prune: say what would be removed.")
    ] = False,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """List the versions of a project, show one, compare two, or remove old ones."""
    from backend import versions as known
    from backend import versions_text as text

    settings = load_settings()
    store = _store(settings)
    row = _find(store, project)
    numbers = [known.version_number(name) for name in version or ()]
    if len(numbers) > 2 or (prune and numbers) or (dry_run and not prune):
        raise SetupError(
            "That cannot be asked in one go.",
            mend="Name no version, one or two; or give --prune, with --dry-run or without.",
        )
    if prune:
        return _prune(store, settings, row.id, dry_run, as_json)
    found: dict[str, Any]
    shown: Any
    if len(numbers) == 2:
        from backend.compare_versions import compare_versions

        compared = compare_versions(store, settings, row.id, *numbers)
        found, shown = asdict(compared), text.comparison_text(compared)
    elif numbers:
        found = known.show_version(store, settings, row.id, numbers[0])
        shown = _escaped(text.version_text(found))
    else:
        with store.read() as session:
            found = {"project": row.id, "versions": list_versions(session, row.id)}
        shown = text.version_table(found["versions"])
    if not as_json:
        Console(highlight=False).print(shown)
    return found


@app.command()
@_command
def promote(
    project: ProjectArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As in v3.")],
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Make a version serve, whatever the gate said of it."""
    from backend import versions as known

    settings = load_settings()
    store = _store(settings)
    row = _find(store, project)
    number = known.version_number(version)
    return _promoted(known.promote(store, settings, row.id, number), as_json)


@app.command()
@_command
def rollback(project: ProjectArgument, as_json: Json = False) -> dict[str, Any] | None:
    """Put back the version that served before; once more, the one before that."""
    from backend import versions as known

    settings = load_settings()
    store = _store(settings)
    row = _find(store, project)
    return _promoted(known.roll_back(store, settings, row.id), as_json)


def _promoted(done: Promotion, as_json: bool) -> dict[str, Any]:
    for warning in done.warnings:
        errors.print(f"[yellow]![/] {_escaped(warning)}")
    if not as_json:
        print(done.sentence)
    return asdict(done)


def _prune(
    store: Store, settings: Settings, project_id: int, dry_run: bool, as_json: bool
) -> dict[str, Any]:
    from backend.prune import prune
    from backend.versions_text import prune_text

    url, api_key = label_studio_access(settings)
    with LabelStudio(url, api_key, settings.label_studio_timeout) as client:
        report = prune(store, client, settings, project_id, dry_run=dry_run)
    if not as_json:
        print(prune_text(report))
    return asdict(report)


def _store(settings: Settings) -> Store:
    store = Store(settings.database_address)
    store.migrate()
    return store


def _find(store: Store, wanted: str) -> Project:
    with store.read() as session:
        rows = session.scalars(select(Project)).all()
    found = [row for row in rows if str(row.id) == wanted] or [
        row for row in rows if row.title == wanted
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{row.id} “{row.title}”" for row in rows) or "none"
    raise SetupError(
        f"“{wanted}” names {len(found)} connected projects; connected: {known}.",
        mend="Give a project's number, or connect it first: tiebreak connect PROJECT",
    )


app.add_typer(passwords)
app.add_typer(experiments)
app.add_typer(simulations)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
