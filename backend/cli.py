"""The command ``tiebreak``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.cli_auto_label import app as auto_labels
from backend.cli_doctor import app as doctors
from backend.cli_experiments import app as experiments
from backend.cli_explain import app as explanations
from backend.cli_export import app as exports
from backend.cli_password import app as passwords
from backend.cli_project import ProjectArgument, find_project, make_store, open_store
from backend.cli_simulate import app as simulations
from backend.cli_versions import app as versions
from backend.command import Commands, Json, errors
from backend.command import command as _command
from backend.command import escaped as _escaped
from backend.errors import SetupError
from backend.logs import configure_logging
from backend.secrets import credentials, log_in_hint
from backend.settings import label_studio_access, load_settings

app = typer.Typer(
    name="tiebreak",
    cls=Commands,
    help="The machine-learning backend that Label Studio teams connect to label images sooner.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"tiebreak {importlib.metadata.version('tiebreak')}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """The machine-learning backend that Label Studio teams connect to label images sooner."""


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


@app.command(epilog="It listens at TIEBREAK_HOST and TIEBREAK_PORT: see docs/settings.md.")
@_command
def serve(as_json: Json = False) -> dict[str, Any] | None:
    """Run the backend, the server that Label Studio connects to."""
    from backend.listening import require_free

    settings = load_settings()
    configure_logging(settings, "server")
    label_studio_access(settings)
    # What is wrong is said once and in a sentence, here and not by each of the processes.
    make_store(settings).close()
    credentials(settings)
    require_free(settings.host, settings.port)
    if as_json:
        print(json.dumps({"url": settings.backend_url}), flush=True)
    config = Path(__file__).with_name("gunicorn.conf.py")
    command = [sys.executable, "-m", "gunicorn", "--config", str(config), "backend.wsgi:app"]
    os.execv(sys.executable, command)  # noqa: S606 - a fixed program, no shell


@app.command(
    epilog="Without internet: TIEBREAK_WEIGHTS_DIR names a folder with weights, see"
    " docs/backbones.md."
)
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
    from backend.labelstudio import LabelStudio

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
    from sqlalchemy import select

    from backend.projects import project_status, trainer_alive
    from backend.status_text import print_status
    from backend.tables import Project

    settings = load_settings()
    store = open_store(settings)
    with store.read() as session:
        query = select(Project).order_by(Project.id)
        rows = [find_project(store, project)] if project else list(session.scalars(query))
        statuses = [project_status(session, row, settings.lease_seconds) for row in rows]
        alive = trainer_alive(session, settings.lease_seconds)
    if not as_json:
        unseen = [row.id for row in rows if row.looked_at is None]
        print_status(statuses, alive, settings.data_dir, unseen)
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
    store = open_store(settings)
    row = find_project(store, project)
    work = cancel_now if cancel else fine_tune_now if finetune else train_now
    outcome = work(store, settings, row.id, wait=wait, console=errors)
    if not as_json:
        print(outcome["sentence"])
    return outcome


app.add_typer(versions)
app.add_typer(auto_labels)
app.add_typer(passwords)
app.add_typer(doctors)
app.add_typer(experiments)
app.add_typer(simulations)
app.add_typer(exports)
app.add_typer(explanations)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
