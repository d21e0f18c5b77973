"""Before the child of a fine-tune runs: whether one is due, and the job that it is given.

The job holds the labels of one moment. It is laid down when every image of it has a working copy,
and no other fine-tune runs.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from sqlalchemy import func, select

from backend import clock
from backend.errors import ImageError
from backend.finetune_child import LOOK_SECONDS
from backend.finetune_files import JOB, project_folder, write
from backend.finetune_plan import LabelledImage, count_labels, labelled_pool, make_job, not_due
from backend.finetune_record import FineTuneRecord
from backend.finetunes import TRAINING, last_ended, want_fine_tune
from backend.pool import remember_failure
from backend.sync import controls_of
from backend.tables import FineTune, Label, Project
from backend.task_rows import AGREED
from backend.tools import Tools
from model.files import writing

log = logging.getLogger(__name__)

FETCHED_AT_ONCE = 32


class FineTunePreparation:
    """What a project's fine-tunes need before they learn.

    ``wake_before`` is told when to look again at the latest.
    """

    def __init__(
        self, tools: Tools, record: FineTuneRecord, wake_before: Callable[[float], None]
    ) -> None:
        self.tools = tools
        self.project_id = record.project_id
        self._record = record
        self._wake_before = wake_before

    def want_when_due(self) -> bool:
        """Write down that a fine-tune is wanted, where one is due."""
        tools = self.tools
        if tools.settings.transfer != "finetune":
            return False
        with tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            if project.gone or not project.champion:
                return False
            before = last_ended(session, self.project_id, tools.engine.backbone)
            learned = before.labels if before else None
            # Most of the time a count tells, and the labels themselves need not be read.
            agreed = select(func.count()).where(
                Label.project_id == self.project_id, Label.status == AGREED
            )
            if (session.scalar(agreed) or 0) < (learned or 0) * tools.settings.finetune_growth:
                return False
            images = labelled_pool(session, project, tools.settings.audit_share)
        if not_due(images, controls_of(project), tools.settings, learned):
            return False
        want_fine_tune(tools.store, self.project_id, asked=False)
        return True

    def prepare(self, row: FineTune) -> bool:
        """Fetch the next images that are missing, or lay the job down that the child is given."""
        tools = self.tools
        if self._another_runs(row):
            return False
        with tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            images = labelled_pool(session, project, tools.settings.audit_share)
        missing = [image for image in images if not tools.copies.has(image.digest)]
        if missing:
            self._fetch(missing[:FETCHED_AT_ONCE])
            return True
        job = make_job(project, images, tools.settings, tools.engine.backbone)
        folder = self._record.folder(row)
        tools.leases.ensure(self.project_id)
        shutil.rmtree(project_folder(tools.settings.data_dir, self.project_id), ignore_errors=True)
        with writing("The job of the fine-tune", folder / JOB):
            folder.mkdir(parents=True)
            write(folder, JOB, job)
        self._record.update(
            row,
            state=TRAINING,
            base=job.identity,
            labels=count_labels(images),
            started_at=clock.now(),
            reason="",
        )
        return True

    def _fetch(self, images: list[LabelledImage]) -> None:
        """Make working copies anew; an image that cannot be had any more is left out."""
        tools = self.tools
        for image in images:
            try:
                tools.fetcher.fetch(image.uri, image.task_id)
                if not tools.copies.has(image.digest):
                    raise ImageError("Its address shows another image now.", retry=True)
            except ImageError as error:
                log.warning("task %d: no image: %s", image.task_id, error)
                remember_failure(tools.store, image.source, error)
            tools.watch.progress()

    def _another_runs(self, row: FineTune) -> bool:
        """Whether the one place is taken, which the row then says."""
        busy = self.tools.slot.project_id
        if busy is None:
            return False
        self._record.update(row, reason=f"one at a time, and project {busy} comes first")
        self._wake_before(clock.now() + LOOK_SECONDS)
        return True
