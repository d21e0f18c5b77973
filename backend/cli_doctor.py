"""The command ``tiebreak doctor``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from backend.command import Json, command, errors, escaped
from backend.errors import LabelStudioNotFound, LabelStudioUnauthorized, LabelStudioUnreachable
from backend.settings import Settings, label_studio_access, load_settings

if TYPE_CHECKING:
    from backend.labelstudio import LabelStudio

app = typer.Typer()

ANSWER_SECONDS = 15.0
"""Longest wait for one answer of Label Studio; who asks the doctor does not want to wait long."""


@app.command()
@command
def doctor(
    project: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROJECT]", help="Number or title; all connected ones if left out."
        ),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what Tiebreak can mend itself, then look again.")
    ] = False,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Look at everything that must hold, and say of what does not how to mend it."""
    from backend.doctor.fixes import fix as mend
    from backend.doctor.report import report_lines
    from backend.doctor.runner import examine
    from backend.labelstudio import LabelStudio
    from backend.log_secrets import hide_settings

    settings = load_settings()
    hide_settings(settings)
    url, api_key = label_studio_access(settings)
    patience = min(ANSWER_SECONDS, settings.label_studio_timeout)
    done = list[str]()
    with LabelStudio(url, api_key, patience) as client, _progress() as say:
        titles = _projects(settings, client, project)
        findings = examine(settings, client, titles, say)
        if fix and any(finding.fix for finding in findings):
            done = mend(settings, client, findings, say)
            findings = examine(settings, client, titles, say)
    healthy = all(finding.state != "failed" for finding in findings)
    if as_json:
        found = [finding.as_json() for finding in findings]
        answer = {"healthy": healthy, "fixed": done, "findings": found}
        print(json.dumps(answer, ensure_ascii=False))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for line in report_lines(findings, titles, done):
            console.print(line)
    raise typer.Exit(0 if healthy else 1)


def _projects(settings: Settings, client: LabelStudio, wanted: str | None) -> dict[int, str]:
    """Number → title of the projects to look at.

    Label Studio need not answer for a project that the database knows, or that is named by its
    number.
    """
    known = _known(settings)
    if wanted is None:
        return known
    named = {n: title for n, title in known.items() if wanted in (str(n), title)}
    try:
        found = client.find_project(wanted)
    except (LabelStudioNotFound, LabelStudioUnauthorized, LabelStudioUnreachable):
        if named or wanted.isdecimal():
            return named or {int(wanted): ""}
        raise
    return {found.id: found.title}


def _known(settings: Settings) -> dict[int, str]:
    """The connected projects; none while the database cannot be read."""
    from sqlalchemy import select
    from sqlalchemy.exc import DBAPIError

    from backend.data_folder import has_database
    from backend.store import Store
    from backend.tables import Project
    from model.errors import StorageError

    try:
        if not has_database(settings):
            return {}
        with closing(Store(settings.database_address)) as store, store.read() as session:
            query = select(Project.id, Project.title).where(~Project.gone).order_by(Project.id)
            return {row.id: row.title for row in session.execute(query)}
    except (DBAPIError, StorageError):
        return {}


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is looked at now, on standard error: in place on a terminal, else line by line."""
    if not errors.is_terminal:
        yield lambda line: errors.print(f"looking at {escaped(line)}")
        return
    with errors.status("") as status:
        yield lambda line: status.update(f"looking at {escaped(line)}")
