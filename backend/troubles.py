"""Steps that fail: tried again a little later, then parked with the reason, so that others go on.

What a step that failed is needed for waits with it; every other step of the project goes on, and so
does every other project. After three retries the step is parked, until something has changed that
may mend it (a webhook, labels, tasks, the labelling config, a request for a training, a restart) or
an hour has passed; one whose cluster is not there goes on trying. Trouble with the network, Label
Studio itself, the disk or the database is no fault of a step: the whole project waits until it is
over.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from backend import clock
from backend.errors import EngineError, LabelStudioError, LabelStudioNotFound, LeaseLost
from backend.lease import Leases
from backend.store import Store
from backend.tables import Hint, Project, Task, Trouble
from model.errors import StorageError, TiebreakError

log = logging.getLogger(__name__)

BACK_OFF = (1.0, 4.0, 16.0)
"""Seconds before each retry."""
PARKED_SECONDS = 3600.0
LOG_MEND = "The trainer's log has the details."
AGAIN = (
    "It is tried again when labels, tasks or the labelling config change, on a webhook, on "
    "`tiebreak train`, "
    "when the trainer is started anew, and within the hour."
)
TITLES = {
    "look": "Comparing with Label Studio",
    "promise": "Checking the promises of automatic labels",
    "recover": "Asking Label Studio what it holds",
    "open": "Opening the queue",
    "embed_labelled": "Embedding the labelled images",
    "group_labelled": "Finding near-duplicates among the labelled images",
    "train": "Training",
    "push": "Sending predictions",
    "order": "Ordering the queue",
    "forecast": "Forecasting",
    "compare": "Comparing picks with chance",
    "tend": "Looking after the fine-tune",
    "group_many": "Finding near-duplicates",
    "embed_pool": "Embedding the images",
    "group_rest": "Finding near-duplicates",
    "work": "Judging the fine-tune",
    "check": "Checking labels and images",
}
NEEDS = {
    "open": ("recover",),
    "group_labelled": ("embed_labelled",),
    "train": ("embed_labelled", "group_labelled"),
    "push": ("recover",),
    "work": ("tend",),
}
"""Step → those that it cannot do without."""


class Troubles:
    """The steps of one project that failed.

    ``wake_before`` is told when to look again at the latest.
    """

    def __init__(
        self, store: Store, leases: Leases, project_id: int, wake_before: Callable[[float], None]
    ) -> None:
        self._store, self._leases, self._project_id = store, leases, project_id
        self._wake_before = wake_before
        with store.read() as session:
            query = select(Trouble).where(Trouble.project_id == project_id)
            self._rows = {row.step: row for row in session.scalars(query)}

    def may_try(self, step: str) -> bool:
        """Whether neither the step nor one that it needs has to wait."""
        return all(map(self._is_free, (step, *NEEDS.get(step, ()))))

    def failed(self, step: str, error: Exception) -> None:
        """Write a failure down, and when the step is tried again."""
        reason, mend = _told(error)
        with self._store.write() as session:
            self._leases.check(session, self._project_id)
            patient = isinstance(error, EngineError)
            self._rows[step] = row = note(
                session, self._project_id, step, reason, mend, patient=patient
            )
        log.error("project %d: %s", self._project_id, sentence(row))

    def went_well(self, step: str) -> None:
        """Forget the failures of a step."""
        if step in self._rows:
            with self._store.write() as session:
                session.execute(delete(Trouble).where(*self._of(step)))
            del self._rows[step]

    def _is_free(self, step: str) -> bool:
        row = self._rows.get(step)
        if row is None or row.retry_at <= clock.now():
            return True
        if row.parked_at is not None and self._mark() != row.mark:
            log.info("project %d: something has changed for a parked step", self._project_id)
            self.went_well(step)
            return True
        self._wake_before(row.retry_at)
        return False

    def _mark(self) -> str:
        with self._store.read() as session:
            return mark(session, self._project_id)

    def _of(self, step: str) -> tuple[Any, ...]:
        return Trouble.project_id == self._project_id, Trouble.step == step


def is_waited_out(error: Exception) -> bool:
    """Whether an error is no fault of the step, and passes by itself or with what caused it."""
    if isinstance(error, LabelStudioNotFound):
        return False
    if isinstance(error, LabelStudioError):
        return not 400 <= error.status < 500 or error.status in (401, 403, 408, 429)
    return isinstance(error, LeaseLost | StorageError)


def note(
    session: Session,
    project_id: int,
    step: str,
    reason: str,
    mend: str,
    *,
    hung: bool = False,
    patient: bool = False,
) -> Trouble:
    """Count one more failure of a step in a row; after three retries it is parked, unless one is
    ``patient`` with what it needs."""
    row = session.get(Trouble, (project_id, step))
    if row is None:
        row = Trouble(project_id=project_id, step=step, failures=0)
        session.add(row)
    now = clock.now()
    row.failures += 1
    row.reason, row.mend, row.hung = reason, mend, hung
    parked = row.failures > len(BACK_OFF) and not patient
    row.parked_at = now if parked else None
    back_off = BACK_OFF[min(row.failures, len(BACK_OFF)) - 1]
    row.retry_at = now + (PARKED_SECONDS if parked else back_off)
    row.mark = mark(session, project_id)
    return row


def mark(session: Session, project_id: int) -> str:
    """Digest of what may mend a step when it changes."""
    project = session.get_one(Project, project_id)
    tasks = session.scalar(select(func.count()).where(Task.project_id == project_id))
    # Labels that nobody could look at yet show in their hints alone.
    hinted = session.scalar(select(func.max(Hint.created_at)).where(Hint.project_id == project_id))
    parts = [project.label_config, project.changed_at, project.train_requested_at, tasks, hinted]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def revive(store: Store) -> None:
    """A trainer starts: try every parked step once more, but for those that never ended."""
    with store.write() as session:
        values = {"parked_at": None, "failures": 0, "retry_at": 0.0}
        session.execute(update(Trouble).where(~Trouble.hung).values(values))


def troubles_json(session: Session, project_id: int) -> list[dict[str, Any]]:
    """The steps of a project that failed, as plain values."""
    query = select(Trouble).where(Trouble.project_id == project_id).order_by(Trouble.step)
    return [
        {
            "step": row.step,
            "sentence": sentence(row),
            "reason": row.reason,
            "mend": row.mend,
            "failures": row.failures,
            "parked": row.parked_at is not None,
            "retry_at": row.retry_at,
        }
        for row in session.scalars(query)
    ]


def sentence(row: Trouble) -> str:
    """What is wrong with a step and what to do, for people."""
    title, words = TITLES.get(row.step, row.step), f"{row.reason} {row.mend}".strip()
    if row.parked_at is None:
        return f"{title} failed and is tried again: {words}"
    return f"{title} failed {row.failures} times and is left alone for now: {words} {AGAIN}"


def _told(error: Exception) -> tuple[str, str]:
    """Reason and mend of an error."""
    if isinstance(error, TiebreakError):
        return error.message, error.mend
    log.error("unexpected error", exc_info=error)
    return f"Unexpected {type(error).__name__}.", LOG_MEND
