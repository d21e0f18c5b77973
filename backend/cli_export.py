"""The command ``tiebreak export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from backend.cli_project import ProjectArgument, find_project, open_store
from backend.command import Json, command, errors
from backend.settings import load_settings

app = typer.Typer()


@app.command()
@command
def export(
    project: ProjectArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder that is made.")],
    model: Annotated[
        bool, typer.Option("--model", help="Export the version that serves, not the labels.")
    ] = False,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Write the labelled data of a project, or its model, to a folder for other programs."""
    from backend.experiment_progress import ExperimentProgress
    from backend.export_data import export_data
    from backend.export_model import export_served

    settings = load_settings()
    store = open_store(settings)
    row = find_project(store, project)
    work = export_served if model else export_data
    with ExperimentProgress(errors) as progress:
        done = work(store, settings, row.id, to, progress.tell)
    for warning in done["warnings"]:
        errors.print(f"! {warning}", markup=False)
    if not as_json:
        print(done["sentence"])
    return done
