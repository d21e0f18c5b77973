"""The fine-tunes of a project as the tables have them: wanted, followed, given up, told of.

A row goes ``waiting`` → ``training`` (a child process learns) → ``judging`` (the labelled images
are embedded with the tuned network, and heads fitted on them meet the champion) → ``embedding``
(the whole pool is embedded while the champion serves) → ``promoted``. It may end before that:
``refused`` by the gate, ``failed`` too often, or ``cancelled``.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, with_config
from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from backend import clock
from backend.log_context import request_id
from backend.store import Store
from backend.tables import FineTune, Hint, Project, version_name

WAITING, TRAINING, JUDGING, EMBEDDING = "waiting", "training", "judging", "embedding"
UNDER_WAY = (WAITING, TRAINING, JUDGING, EMBEDDING)
PROMOTED, REFUSED, FAILED, CANCELLED = "promoted", "refused", "failed", "cancelled"


def under_way(session: Session, project_id: int) -> FineTune | None:
    """The fine-tune of a project that has not ended."""
    query = _of(project_id).where(FineTune.state.in_(UNDER_WAY))
    return session.scalars(query.limit(1)).first()


def newest_fine_tune(session: Session, project_id: int) -> FineTune | None:
    """The last fine-tune of a project, ended or not."""
    return session.scalars(_of(project_id).limit(1)).first()


def last_ended(session: Session, project_id: int, base: str) -> FineTune | None:
    """The last one that learned from labels and ended, however, from the backbone ``base``."""
    query = _of(project_id).where(
        FineTune.state.not_in(UNDER_WAY), FineTune.base == base, FineTune.labels > 0
    )
    return session.scalars(query.limit(1)).first()


def want_fine_tune(store: Store, project_id: int, *, asked: bool) -> tuple[int, bool]:
    """Write down that a fine-tune is wanted, and wake the trainer.

    Returns:
        The number of the fine-tune, and whether it is new: one under way is not doubled.
    """
    with store.write() as session:
        session.get_one(Project, project_id, with_for_update=True)
        row = under_way(session, project_id)
        new = row is None
        if row is None:
            row = FineTune(
                project_id=project_id,
                state=WAITING,
                asked=asked,
                wanted_at=clock.now(),
                request_id=request_id(),
            )
            session.add(row)
            session.flush()
        session.add(_wake(project_id))
        return row.id, new


def cancel_fine_tune(store: Store, project_id: int) -> int | None:
    """Ask to give the fine-tune up that is under way; its number, none when there is none."""
    with store.write() as session:
        row = under_way(session, project_id)
        if row is None:
            return None
        row.cancel = True
        session.add(_wake(project_id))
        return row.id


@with_config(ConfigDict(extra="forbid"))
class FineTuneJson(TypedDict):
    """A fine-tune as :func:`fine_tune_json` gives it."""

    id: int
    state: str
    sentence: str
    labels: int
    asked: bool
    attempts: int
    reason: str
    backbone: str
    version: str | None
    wanted_at: float
    started_at: float | None
    finished_at: float | None
    progress: dict[str, Any]


def fine_tune_json(row: FineTune) -> FineTuneJson:
    """A fine-tune as plain values."""
    return {
        "id": row.id,
        "state": row.state,
        "sentence": sentence(row),
        "labels": row.labels,
        "asked": row.asked,
        "attempts": row.attempts,
        "reason": row.reason,
        "backbone": row.backbone,
        "version": None if row.version is None else version_name(row.version),
        "wanted_at": row.wanted_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "progress": row.progress,
    }


def sentence(row: FineTune) -> str:
    """How a fine-tune stands, in words."""
    ended = {
        PROMOTED: f"fine-tuned on {row.labels} labels",
        REFUSED: f"the fine-tune on {row.labels} labels was refused",
        FAILED: f"the fine-tune failed: {row.reason.rstrip('.')}",
        CANCELLED: "the fine-tune was cancelled",
    }
    if row.state in ended:
        return ended[row.state]
    if row.cancel:
        return "the fine-tune is being cancelled"
    if row.state == WAITING:
        return f"the fine-tune waits: {row.reason}" if row.reason else "a fine-tune begins"
    if row.state == TRAINING:
        return _training(row)
    made, images = (int(row.progress.get(key) or 0) for key in ("embedded", "images"))
    what = "the labelled images" if row.state == JUDGING else "all images"
    told = f": {made} of {images}" if images else ""
    return f"fine-tuned on {row.labels} labels; embedding {what} with it{told}"


def _training(row: FineTune) -> str:
    at = row.progress
    text = f"fine-tuning on {row.labels} labels"
    if row.reason:
        text += f", once more after a failure ({row.reason.rstrip('.')})"
    if at.get("epoch"):
        text += f": epoch {at['epoch']} of {at['epochs']}"
        if at.get("eta_seconds") is not None:
            text += f", about {duration(float(at['eta_seconds']))} left"
    elif at.get("phase"):
        text += f": {at['phase']}"
    return text


def duration(seconds: float) -> str:
    """A length of time as a person says it: ``40 s``, ``4 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _of(project_id: int) -> Any:
    return select(FineTune).where(FineTune.project_id == project_id).order_by(FineTune.id.desc())


def _wake(project_id: int) -> Hint:
    # No task to look at: it only makes the trainer turn to the project.
    return Hint(project_id=project_id, action="FINETUNE", task_ids=[], created_at=clock.now())
