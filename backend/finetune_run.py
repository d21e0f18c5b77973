"""While the child of a fine-tune runs: start it, follow it, try again, take over what it made.

What a child has learned is in its folder, so one that was killed goes on from there, whoever starts
it again. One that fails again and again at the same place is given up.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend import clock
from backend.finetune_child import LOG, LOOK_SECONDS
from backend.finetune_files import (
    CHECKPOINT,
    JOB,
    PROGRESS,
    RESULT,
    TUNED,
    Job,
    Progress,
    Result,
    read,
)
from backend.finetune_job import BUSY, NO_DISK, NO_ENGINE
from backend.finetune_record import FineTuneRecord
from backend.finetunes import FAILED, JUDGING, REFUSED, WAITING
from backend.shared_files import shared_files
from backend.supervise import how_it_ended, tail
from backend.tables import FineTune
from backend.tools import Tools
from backend.tuned_networks import TunedNetwork, keep_network, share_tuned, tuned_folder
from model.errors import ArtifactError

log = logging.getLogger(__name__)

MOST_FAILURES = 3
DISK_SECONDS = 10.0
"""How long a fine-tune that found no space, or no cluster, waits before it looks again."""


class FineTuneRun:
    """The child of one project's fine-tune, from its start to what it has made.

    ``wake_before`` is told when to look again at the latest.
    """

    def __init__(
        self, tools: Tools, record: FineTuneRecord, wake_before: Callable[[float], None]
    ) -> None:
        self.tools = tools
        self.project_id = record.project_id
        self._record = record
        self._wake_before = wake_before

    def follow(self, row: FineTune) -> bool:
        """Start the child or look after it; take over what it made when it is done."""
        slot, folder = self.tools.slot, self._record.folder(row)
        if not slot.holds(row.id):
            return self._start(row, folder)
        if self._record.is_anothers(row):
            slot.stop()
            return False
        status = slot.ended()
        if status is None:
            at = read(folder, PROGRESS, Progress)
            if at is not None:
                self._record.update(row, progress=_merged(row.progress, at))
            self._wake_before(clock.now() + LOOK_SECONDS)
            return False
        if status == BUSY:
            self._record.update(row, retry_at=clock.now() + LOOK_SECONDS)
            return True
        if status in (NO_DISK, NO_ENGINE):
            # Nothing is wrong with it; it goes on from its checkpoint when there is space, or the
            # cluster is there.
            why = tail(folder / LOG, 1)[-300:].strip()
            self._record.update(row, reason=why, retry_at=clock.now() + DISK_SECONDS)
            return True
        result = read(folder, RESULT, Result)
        if result is None:
            why = f"its process ended ({how_it_ended(status)}). {tail(folder / LOG, 1)[-300:]}"
            return self._failed_once(row, folder, why.strip(), retry=True)
        if not result.done:
            return self._failed_once(row, folder, result.reason, retry=result.retry)
        return self._adopt(row, folder, result)

    def _start(self, row: FineTune, folder: Path) -> bool:
        tools = self.tools
        if self._record.is_anothers(row):
            self._wake_before(clock.now() + tools.leases.seconds / 3)
            return False
        if row.retry_at > clock.now():
            self._wake_before(row.retry_at)
            return False
        if tools.slot.project_id is not None:
            self._wake_before(clock.now() + LOOK_SECONDS)
            return False
        result = read(folder, RESULT, Result)
        if result is not None and result.done:
            return self._adopt(row, folder, result)
        if read(folder, JOB, Job) is None or row.base != tools.engine.backbone:
            self._record.update(row, state=WAITING, reason="")
            return True
        tools.slot.start(row.id, self.project_id, folder)
        self._record.update(row, owner=tools.leases.owner)
        self._wake_before(clock.now() + LOOK_SECONDS)
        return False

    def _failed_once(self, row: FineTune, folder: Path, why: str, *, retry: bool) -> bool:
        """Go on from the checkpoint a little later; without it where that has failed as well."""
        epoch = int(row.progress.get("epoch") or 0)
        went_on = epoch > int(row.progress.get("failed_at") or 0)
        attempts = 1 if went_on else row.attempts + 1
        words = tail(folder / LOG)
        log.warning("project %d: fine-tune %d failed: %s\n%s", self.project_id, row.id, why, words)
        if attempts >= MOST_FAILURES or not retry:
            return self._record.end(row, FAILED, why)
        if attempts == MOST_FAILURES - 1:
            self.tools.leases.ensure(self.project_id)
            shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
        self._record.update(
            row,
            attempts=attempts,
            reason=why,
            retry_at=clock.now() + attempts,
            progress={**row.progress, "failed_at": epoch},
        )
        return True

    def _adopt(self, row: FineTune, folder: Path, result: Result) -> bool:
        """Take over what the child has made."""
        job = read(folder, JOB, Job)
        if job is None:
            return self._failed_once(row, folder, f"{folder / JOB} is damaged.", retry=True)
        summary: dict[str, Any] = {
            **result.summary,
            "losses": list(result.losses),
            "sha256": result.sha256,
            "skipped": result.skipped,
        }
        if not result.improved:
            why = "No pass over the images made the network better than it was."
            return self._record.end(row, REFUSED, why, progress=summary)
        identity = f"{job.backbone}-{result.sha256[:8]}-{job.input_size}px"
        tuned = TunedNetwork(
            identity=identity,
            name=job.backbone,
            input_size=job.input_size,
            sha256=result.sha256,
            base=job.identity,
            trained=frozenset(result.trained),
        )
        # Named before it is there, so that nobody prunes it in between.
        self._record.update(row, backbone=identity)
        try:
            keep_network(self.tools.settings, folder / TUNED, tuned)
            if shared := shared_files(self.tools.settings):
                share_tuned(shared, tuned_folder(self.tools.settings.data_dir), identity)
        except ArtifactError as error:
            (folder / RESULT).unlink(missing_ok=True)
            return self._failed_once(row, folder, str(error), retry=True)
        self._record.update(row, state=JUDGING, reason="", progress=summary)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("project %d: fine-tune %d made %s", self.project_id, row.id, identity)
        return True


def _merged(before: dict[str, Any], at: Progress) -> dict[str, Any]:
    kept = {"failed_at": before["failed_at"]} if "failed_at" in before else {}
    return {**at.model_dump(), **kept}
