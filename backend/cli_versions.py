"""The commands ``tiebreak versions``, ``promote`` and ``rollback``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from backend.cli_project import ProjectArgument, find_project, open_store
from backend.command import Json, command, errors, escaped
from backend.errors import SetupError
from backend.settings import Settings, label_studio_access, load_settings

if TYPE_CHECKING:
    from backend.store import Store
    from backend.versions import Promotion

app = typer.Typer()

NO_VERSION = "There is no version yet. The first is trained once two classes have labels."


@app.command()
@command
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
    from backend.projects import list_versions

    settings = load_settings()
    store = open_store(settings)
    row = find_project(store, project)
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
        shown = escaped(text.version_text(found))
    else:
        with store.read() as session:
            found = {"project": row.id, "versions": list_versions(session, row.id)}
        shown = text.version_table(found["versions"]) if found["versions"] else NO_VERSION
    if not as_json:
        Console(highlight=False).print(shown)
    return found


@app.command()
@command
def promote(
    project: ProjectArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As in v3.")],
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Make a version serve, whatever the gate said of it."""
    from backend import versions as known

    settings = load_settings()
    store = open_store(settings)
    row = find_project(store, project)
    number = known.version_number(version)
    return _promoted(known.promote(store, settings, row.id, number), as_json)


@app.command()
@command
def rollback(project: ProjectArgument, as_json: Json = False) -> dict[str, Any] | None:
    """Put back the version that served before; once more, the one before that."""
    from backend import versions as known

    settings = load_settings()
    store = open_store(settings)
    row = find_project(store, project)
    return _promoted(known.roll_back(store, settings, row.id), as_json)


def _promoted(done: Promotion, as_json: bool) -> dict[str, Any]:
    for warning in done.warnings:
        errors.print(f"[yellow]![/] {escaped(warning)}")
    if not as_json:
        print(done.sentence)
    return asdict(done)


def _prune(
    store: Store, settings: Settings, project_id: int, dry_run: bool, as_json: bool
) -> dict[str, Any]:
    from backend.labelstudio import LabelStudio
    from backend.prune import prune
    from backend.versions_text import prune_text

    url, api_key = label_studio_access(settings)
    with LabelStudio(url, api_key, settings.label_studio_timeout) as client:
        report = prune(store, client, settings, project_id, dry_run=dry_run)
    if not as_json:
        print(prune_text(report))
    return asdict(report)
