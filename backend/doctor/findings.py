"""What a check finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "failed", "skipped"]
Fix = Literal["", "reconnect", "order", "orphans", "database", "file modes", "weights"]


@dataclass(frozen=True)
class Outcome:
    """What one check says: ``why`` is empty where the check's own reason says enough.

    ``fix`` names what ``--fix`` does about it; empty where only a person can.
    """

    state: State
    what: str
    why: str = ""
    mend: str = ""
    fix: Fix = ""


@dataclass(frozen=True)
class Finding:
    """An outcome with its check, and the project that it is about; None for the whole set-up."""

    check: str
    project: int | None
    state: State
    what: str
    why: str
    mend: str
    fix: Fix

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self) | {"fix": bool(self.fix)}


class Skipped(Exception):
    """A check cannot say anything, for something that another check reports."""


def ok(what: str) -> Outcome:
    """All is as it must be."""
    return Outcome("ok", what)


def warning(what: str, mend: str, *, why: str = "", fix: Fix = "") -> Outcome:
    """Something works less well than it could; no reason to exit with 1."""
    return Outcome("warning", what, why, mend, fix)


def failed(what: str, mend: str, *, why: str = "", fix: Fix = "") -> Outcome:
    """Something does not work, or soon will not."""
    return Outcome("failed", what, why, mend, fix)
