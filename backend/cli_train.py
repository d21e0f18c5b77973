"""What ``tiebreak train`` does: ask, wait with progress, cancel."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy.orm import Session

from backend.errors import SetupError
from backend.finetunes import (
    CANCELLED,
    FAILED,
    PROMOTED,
    TRAINING,
    UNDER_WAY,
    cancel_fine_tune,
    fine_tune_json,
    sentence,
    want_fine_tune,
)
from backend.hints import add_hint
from backend.projects import newest_version, trainer_alive
from backend.settings import Settings
from backend.store import Store
from backend.tables import FineTune, Project, Trouble, version_name
from model.errors import TiebreakError

POLL_SECONDS = 0.2


def train_now(
    store: Store, settings: Settings, project_id: int, *, wait: bool, console: Console
) -> dict[str, Any]:
    """Ask for heads on all labels; what came of it, with ``wait``."""
    with store.read() as session:
        before = newest_version(session, project_id)
        _require_trainer(session, settings)
    add_hint(store, project_id, "START_TRAINING", None, train=True)
    if not wait:
        return _asked(project_id)
    return _await_training(store, project_id, before.number if before else 0, console)


def fine_tune_now(
    store: Store, settings: Settings, project_id: int, *, wait: bool, console: Console
) -> dict[str, Any]:
    """Ask for a fine-tune, or join the one that is under way; what came of it, with ``wait``."""
    with store.read() as session:
        _require_trainer(session, settings)
    number, new = want_fine_tune(store, project_id, asked=True)
    if not new:
        console.print(f"Fine-tune {number} of this project is under way already.")
    if not wait:
        return _asked(project_id) | {"finetune": number}
    row = _await_fine_tune(store, number, console)
    if row.state == FAILED:
        raise TiebreakError(row.reason, mend="What serves goes on serving. Mend it and ask again.")
    return _told(row)


def cancel_now(
    store: Store, settings: Settings, project_id: int, *, wait: bool, console: Console
) -> dict[str, Any]:
    """Ask to give up the fine-tune that is under way; with ``wait`` until that is done."""
    number = cancel_fine_tune(store, project_id)
    if number is None:
        said = "No fine-tune of this project is under way."
        return {"project": project_id, "status": "nothing to cancel", "sentence": said}
    with store.read() as session:
        alive = trainer_alive(session, settings.lease_seconds)
    if not wait or not alive:
        later = "the trainer was asked" if alive else "the next trainer to start will do it"
        said = f"Fine-tune {number} is to be cancelled: {later}."
        return {"project": project_id, "status": "asked", "finetune": number, "sentence": said}
    row = _await_fine_tune(store, number, console)
    told = _told(row)
    if row.state != CANCELLED:
        told["sentence"] = f"It was over before it could be cancelled. {told['sentence']}"
    return told


def _require_trainer(session: Session, settings: Settings) -> None:
    if not trainer_alive(session, settings.lease_seconds):
        raise SetupError("No trainer is running.", mend="Start one: tiebreak trainer")


def _asked(project_id: int) -> dict[str, Any]:
    said = "The trainer was asked; `tiebreak status` shows how it goes."
    return {"project": project_id, "status": "asked", "sentence": said}


def _told(row: FineTune) -> dict[str, Any]:
    found = fine_tune_json(row)
    said = found["sentence"]
    start = f"{found['version']}: {said}" if found["version"] else said[0].upper() + said[1:]
    # A failure's sentence has its reason already.
    text = f"{start}. {row.reason}".strip() if row.state != FAILED else f"{start}."
    return {
        "project": row.project_id,
        "version": found["version"],
        "kept": row.state == PROMOTED,
        "reason": row.reason,
        "sentence": text,
        "finetune": found,
    }


def _await_fine_tune(store: Store, number: int, console: Console) -> FineTune:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("waiting for the trainer", total=None)
        said = ""
        while True:
            with store.read() as session:
                row = session.get_one(FineTune, number)
                error = session.get_one(Project, row.project_id).error
            if row.state not in UNDER_WAY:
                return row
            text = f"{sentence(row)}; trouble: {error}" if error else sentence(row)
            _show(progress, bar, row, text)
            if not console.is_terminal and _gist(row, error) != said:
                said = _gist(row, error)
                console.print(f"  {text}", markup=False)
            time.sleep(POLL_SECONDS)


def _gist(row: FineTune, error: str) -> str:
    """What is worth a line of its own in a log."""
    return f"{row.state} {row.progress.get('phase')} {row.progress.get('epoch')} {error}"


def _show(progress: Progress, bar: TaskID, row: FineTune, text: str) -> None:
    at = row.progress
    if row.state == TRAINING and at.get("epoch"):
        # Epochs that are done, and the share of the one under way.
        done = at["epoch"] - 1 + at["step"] / max(1, at["steps"])
        progress.update(bar, description=text, completed=done, total=at["epochs"])
    elif row.state != TRAINING and at.get("images"):
        progress.update(bar, description=text, completed=at["embedded"], total=at["images"])
    else:
        progress.update(bar, description=text, total=None)


def _await_training(store: Store, project_id: int, before: int, console: Console) -> dict[str, Any]:
    with console.status("training …") as progress:
        while True:
            with store.read() as session:
                project = session.get_one(Project, project_id)
                newest = newest_version(session, project_id)
                parked = session.get(Trouble, (project_id, "train"))
            if project.error:
                raise TiebreakError(project.error, mend="The trainer keeps trying.")
            if parked is not None and parked.parked_at is not None:
                raise TiebreakError(f"The training failed: {parked.reason}", mend=parked.mend)
            if newest is not None and newest.number > before:
                name = version_name(newest.number)
                return {
                    "project": project_id,
                    "version": name,
                    "kept": newest.kept,
                    "reason": newest.reason,
                    "sentence": f"{name}, from {newest.labels} labels. {newest.reason}",
                }
            if project.train_requested_at is None:
                reason = project.waiting or "there is nothing new to learn"
                return {
                    "project": project_id,
                    "version": None,
                    "kept": False,
                    "reason": reason,
                    "sentence": f"Nothing was trained: {reason}.",
                }
            progress.update(project.activity or "waiting for the trainer …")
            time.sleep(POLL_SECONDS)
