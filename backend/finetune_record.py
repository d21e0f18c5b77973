"""The row of a fine-tune under way: read, written, closed.

Nothing is written into it by a trainer whose lease is no longer its own.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from backend import clock
from backend.finetune_files import job_folder, project_folder
from backend.finetunes import sentence, under_way
from backend.metrics import FINETUNE_SECONDS
from backend.shared_files import shared_files
from backend.tables import FineTune
from backend.tools import Tools
from backend.tuned_networks import forget_unneeded

log = logging.getLogger(__name__)


class FineTuneRecord:
    """What is written down of the fine-tunes of one project."""

    def __init__(self, tools: Tools, project_id: int) -> None:
        self.tools = tools
        self.project_id = project_id

    def under_way(self) -> FineTune | None:
        """The fine-tune that has not ended."""
        with self.tools.store.read() as session:
            return under_way(session, self.project_id)

    def update(self, row: FineTune, **values: Any) -> None:
        """Write into the row, in the table and at hand; nothing, where nothing changes."""
        values = {name: v for name, v in values.items() if getattr(row, name) != v}
        if not values:
            return
        with self.tools.store.write() as session:
            self.tools.leases.check(session, self.project_id)
            kept = session.get_one(FineTune, row.id)
            for name, value in values.items():
                setattr(kept, name, value)
        for name, value in values.items():
            setattr(row, name, value)

    def end(self, row: FineTune, state: str, reason: str, **values: Any) -> bool:
        """Write the end down, and clean up. True, as something was done."""
        self.update(row, state=state, reason=reason, finished_at=clock.now(), **values)
        FINETUNE_SECONDS.labels(state).observe(clock.now() - (row.started_at or row.wanted_at))
        log.info("project %d: %s: %s", self.project_id, sentence(row), reason)
        shutil.rmtree(
            project_folder(self.tools.settings.data_dir, self.project_id), ignore_errors=True
        )
        settings = self.tools.settings
        forget_unneeded(self.tools.store, settings, shared_files(settings))
        return True

    def folder(self, row: FineTune) -> Path:
        """What the child works in."""
        return job_folder(self.tools.settings.data_dir, self.project_id, row.id)

    def is_anothers(self, row: FineTune) -> bool:
        """Whether another trainer, which is at work, runs the child."""
        leases = self.tools.leases
        return row.owner != leases.owner and leases.works(row.owner)
