"""Doing the checks: one that fails, hangs or breaks is a finding, never the end of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from backend.data_folder import unusable
from backend.doctor.examination import Examination
from backend.doctor.findings import Finding, Outcome, Skipped, failed
from backend.doctor.registry import EVERYWHERE, LABEL_STUDIO, OF_A_PROJECT, Check
from backend.errors import LabelStudioUnauthorized, LabelStudioUnreachable
from backend.labelstudio import LabelStudio
from backend.log_secrets import scrubbed
from backend.settings import Settings
from model.errors import StorageError, TiebreakError

CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (LabelStudioUnreachable, "label-studio"),
    (LabelStudioUnauthorized, "token"),
    (DBAPIError, "database"),
    (StorageError, "database"),
    (PermissionError, "data-folder"),
)
"""What a check stumbles over, and the check that reports it."""


def examine(
    settings: Settings,
    client: LabelStudio,
    projects: Iterable[int],
    say: Callable[[str], None] = lambda line: None,
) -> list[Finding]:
    """The findings of all checks, of the set-up and then of each project. ``say`` is told what is
    looked at."""
    found = look_at(EVERYWHERE, Examination(settings, client), None, (), say)
    broken = [finding.check for finding in found if finding.state == "failed"]
    checks = [replace(check, needs=LABEL_STUDIO) for check in OF_A_PROJECT]
    for number in projects:
        exam = Examination(settings, client, number)
        found += look_at(checks, exam, number, broken, say)
    return found


def look_at(
    checks: Sequence[Check],
    exam: Examination,
    project: int | None,
    broken: Collection[str],
    say: Callable[[str], None],
) -> list[Finding]:
    """One finding for each check; ``broken`` are checks that have failed before."""
    found = list[Finding]()
    failures = set(broken)
    for check in checks:
        say(check.name if project is None else f"project {project}: {check.name}")
        finding = _finding(check, project, _in_time(check, exam, failures))
        if finding.state == "failed":
            failures.add(check.name)
        found.append(finding)
    exam.close()
    return found


def _in_time(check: Check, exam: Examination, broken: Collection[str]) -> Outcome:
    """What a check says within its time; one that hangs is left behind."""
    if missing := [name for name in check.needs if name in broken]:
        return Outcome("skipped", f"Not looked at: see {missing[0]}")
    said = list[Outcome]()
    thread = threading.Thread(
        target=lambda: said.append(_look(check, exam, broken)), name=check.name, daemon=True
    )
    thread.start()
    thread.join(check.seconds)
    if said:
        return said[0]
    return failed(
        f"The check was not done within {check.seconds:g} s.",
        "Look at what it asks: it is there, but answers too slowly or not at all.",
    )


def _look(check: Check, exam: Examination, broken: Collection[str]) -> Outcome:
    try:
        return check.look(exam)
    except Skipped as reason:
        return Outcome("skipped", f"Not looked at: {reason}")
    except Exception as error:
        for kind, cause in CAUSES:
            if isinstance(error, kind) and cause in broken:
                return Outcome("skipped", f"Not looked at: see {cause}")
        if isinstance(error, TiebreakError):
            return failed(error.message, error.mend or "The sentence says what is wrong.")
        if isinstance(error, PermissionError) and error.filename:
            told = unusable(Path(error.filename), error)
            return failed(told.message, told.mend)
        return failed(
            f"The check itself broke: {type(error).__name__}: {error}",
            "The other findings hold. See that this Tiebreak is installed as its lock file says.",
        )


def _finding(check: Check, project: int | None, outcome: Outcome) -> Finding:
    bad = outcome.state in ("failed", "warning")
    return Finding(
        check=check.name,
        project=project,
        state=outcome.state,
        what=scrubbed(outcome.what),
        why=scrubbed(outcome.why or check.why) if bad else "",
        mend=scrubbed(outcome.mend),
        fix=outcome.fix,
    )
