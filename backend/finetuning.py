"""The steps of a fine-tune: start the child, follow it, let the gate judge, embed, promote.

Each step is small and committed before the next, and heads go on learning on the old backbone in
between. A version never serves before all images that can be had are embedded for it: until then
the champion serves as before. What a step needs is in the table of fine-tunes and in the folder of
:mod:`backend.finetune_files`, so a trainer killed at any instant is followed by one that goes on.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from backend.candidate import Candidate, challenge
from backend.errors import ImageError
from backend.finetune_child import LOG
from backend.finetune_files import (
    CHECKPOINT,
    JOB,
    PROGRESS,
    RESULT,
    TUNED,
    Job,
    Progress,
    Result,
    job_folder,
    project_folder,
    read,
    write,
)
from backend.finetune_job import BUSY, NO_DISK
from backend.finetune_plan import LabelledImage, count_labels, labelled_pool, make_job, not_due
from backend.finetunes import (
    CANCELLED,
    EMBEDDING,
    FAILED,
    JUDGING,
    PROMOTED,
    REFUSED,
    TRAINING,
    WAITING,
    last_ended,
    sentence,
    under_way,
    want_fine_tune,
)
from backend.judging import count_look
from backend.log_context import following, log_context
from backend.metrics import FINETUNE_SECONDS
from backend.pool import count_images, embed_chunk, remember_failure
from backend.supervise import how_it_ended, tail
from backend.sync import AGREED, controls_of
from backend.tables import FineTune, Label, Project, version_name
from backend.tools import Tools
from backend.training import CHANGED_MEANWHILE, TOO_LITTLE, settle
from backend.tuned_networks import (
    TunedNetwork,
    find_tuned,
    forget_unneeded,
    keep_network,
    tuned_base,
    tuned_folder,
)
from model.artifact import Artifact
from model.errors import ArtifactError, StorageError, TiebreakError
from model.files import writing

log = logging.getLogger(__name__)

MOST_FAILURES = 3
LOOK_SECONDS = 1.0
DISK_SECONDS = 10.0
"""How long a fine-tune that found no space waits before it looks for some again."""
FETCHED_AT_ONCE = 32


class FineTuning:
    """The fine-tunes of one project.

    ``wake_before`` is told when to look again at the latest.
    """

    def __init__(
        self,
        tools: Tools,
        project_id: int,
        wake_before: Callable[[float], None],
    ) -> None:
        self.tools = tools
        self.project_id = project_id
        self._wake_before = wake_before

    # Both return True when something was done, as the steps of the reconciler do.

    def tend(self) -> bool:
        """Start or follow the child, or give the fine-tune up that somebody cancelled."""
        row = self._under_way()
        if row is None:
            return False
        with log_context(**following([row.request_id])):
            return self._tend(row)

    def _tend(self, row: FineTune) -> bool:
        if row.cancel or self._gone():
            return self._cancel(row)
        if row.state == WAITING:
            return self._prepare(row)
        if row.state == TRAINING:
            return self._follow(row)
        return False

    def work(self) -> bool:
        """Write down that one is due; or go on with one whose child is done."""
        row = self._under_way()
        if row is None:
            return self._want_when_due()
        if row.cancel or row.state not in (JUDGING, EMBEDDING):
            return False
        with log_context(**following([row.request_id])):
            return self._work(row)

    def _work(self, row: FineTune) -> bool:
        tuned = find_tuned(tuned_folder(self.tools.settings.data_dir), row.backbone)
        if tuned is None or tuned.base != self.tools.engine.backbone:
            what = "is missing" if tuned is None else "is not of the backbone that is set now"
            return self._end(row, FAILED, f"The fine-tuned network {row.backbone} {what}.")
        if self._embed(row, tuned):
            return True
        return self._judge(row, tuned) if row.state == JUDGING else self._promote(row, tuned)

    def _want_when_due(self) -> bool:
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

    # Before the child runs

    def _prepare(self, row: FineTune) -> bool:
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
        folder = self._folder(row)
        tools.leases.ensure(self.project_id)
        shutil.rmtree(project_folder(tools.settings.data_dir, self.project_id), ignore_errors=True)
        with writing("The job of the fine-tune", folder / JOB):
            folder.mkdir(parents=True)
            write(folder, JOB, job)
        self._update(
            row,
            state=TRAINING,
            base=job.identity,
            labels=count_labels(images),
            started_at=time.time(),
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
        self._update(row, reason=f"one at a time, and project {busy} comes first")
        self._look_again()
        return True

    # While the child runs

    def _follow(self, row: FineTune) -> bool:
        slot, folder = self.tools.slot, self._folder(row)
        if not slot.holds(row.id):
            return self._start(row, folder)
        if self._is_anothers(row):
            slot.stop()
            return False
        status = slot.ended()
        if status is None:
            at = read(folder, PROGRESS, Progress)
            if at is not None:
                self._update(row, progress=_merged(row.progress, at))
            self._look_again()
            return False
        if status == BUSY:
            self._update(row, retry_at=time.time() + LOOK_SECONDS)
            return True
        if status == NO_DISK:
            # Nothing is wrong with it; it goes on from its checkpoint when there is space.
            why = tail(folder / LOG, 1)[-300:].strip()
            self._update(row, reason=why, retry_at=time.time() + DISK_SECONDS)
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
        if self._is_anothers(row):
            self._wake_before(time.time() + tools.leases.seconds / 3)
            return False
        if row.retry_at > time.time():
            self._wake_before(row.retry_at)
            return False
        if tools.slot.project_id is not None:
            self._look_again()
            return False
        result = read(folder, RESULT, Result)
        if result is not None and result.done:
            return self._adopt(row, folder, result)
        if read(folder, JOB, Job) is None or row.base != tools.engine.backbone:
            self._update(row, state=WAITING, reason="")
            return True
        tools.slot.start(row.id, self.project_id, folder)
        self._update(row, owner=tools.leases.owner)
        self._look_again()
        return False

    def _failed_once(self, row: FineTune, folder: Path, why: str, *, retry: bool) -> bool:
        """Go on from the checkpoint a little later; without it where that has failed as well."""
        epoch = int(row.progress.get("epoch") or 0)
        went_on = epoch > int(row.progress.get("failed_at") or 0)
        attempts = 1 if went_on else row.attempts + 1
        words = tail(folder / LOG)
        log.warning("project %d: fine-tune %d failed: %s\n%s", self.project_id, row.id, why, words)
        if attempts >= MOST_FAILURES or not retry:
            return self._end(row, FAILED, why)
        if attempts == MOST_FAILURES - 1:
            self.tools.leases.ensure(self.project_id)
            shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
        self._update(
            row,
            attempts=attempts,
            reason=why,
            retry_at=time.time() + attempts,
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
            return self._end(row, REFUSED, why, progress=summary)
        identity = f"{job.backbone}-{result.sha256[:8]}-{job.input_size}px"
        record = TunedNetwork(
            identity=identity,
            name=job.backbone,
            input_size=job.input_size,
            sha256=result.sha256,
            base=job.identity,
            trained=frozenset(result.trained),
        )
        # Named before it is there, so that nobody prunes it in between.
        self._update(row, backbone=identity)
        try:
            keep_network(self.tools.settings, folder / TUNED, record)
        except ArtifactError as error:
            (folder / RESULT).unlink(missing_ok=True)
            return self._failed_once(row, folder, str(error), retry=True)
        self._update(row, state=JUDGING, reason="", progress=summary)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("project %d: fine-tune %d made %s", self.project_id, row.id, identity)
        return True

    # When the child is done

    def _embed(self, row: FineTune, tuned: TunedNetwork) -> bool:
        """Embed the next images with the tuned network: the labelled ones, later all."""
        tools = self.tools
        try:
            done = embed_chunk(
                tools.store,
                tools.fetcher,
                tools.copies,
                tools.engine,
                self.project_id,
                labelled_only=row.state == JUDGING,
                workers=tools.settings.image_workers,
                backbone=tuned.identity,
                progress=tools.watch.progress,
            )
        except StorageError:
            raise
        except TiebreakError as error:
            return self._end(row, FAILED, str(error))
        if done and row.state == EMBEDDING:
            with tools.store.read() as session:
                counts = count_images(session, self.project_id, tuned.identity)
            at = {"embedded": counts.embedded, "images": counts.images - counts.failed}
            self._update(row, progress={**row.progress, **at})
        return done > 0

    def _challenge(self, row: FineTune, tuned: TunedNetwork) -> Candidate | None:
        tools = self.tools
        with tools.store.read() as session:
            serving = session.get_one(Project, self.project_id).champion
        champion = tools.champions.get(self.project_id)
        found = challenge(
            tools.store,
            tools.settings,
            self.project_id,
            tuned.base,
            champion if champion and comparable(champion, tuned.base) else None,
            serving,
            tuned,
            tools.priors,
        )
        if not isinstance(found, Candidate):
            return None
        about = {"id": row.id, "labels": row.labels, **row.progress}
        return replace(found, metrics={**found.metrics, "finetune": about})

    def _judge(self, row: FineTune, tuned: TunedNetwork) -> bool:
        """Let it meet the champion before the pool is embedded, which takes longer."""
        found = self._challenge(row, tuned)
        if found is None:
            return self._end(row, FAILED, f"{TOO_LITTLE}.")
        if not found.decision.promote:
            return self._settle(row, found)
        if found.decision.n:
            # No version is written yet that could say that the held-out labels were looked at.
            with self.tools.store.write() as session:
                self.tools.leases.check(session, self.project_id)
                count_look(session, self.project_id)
        self._update(row, state=EMBEDDING, reason=found.decision.reason)
        return True

    def _promote(self, row: FineTune, tuned: TunedNetwork) -> bool:
        """All is embedded: meet the champion of now, on the labels of now."""
        found = self._challenge(row, tuned)
        if found is None:
            return self._end(row, FAILED, f"{TOO_LITTLE}.")
        return self._settle(row, found)

    def _settle(self, row: FineTune, found: Candidate) -> bool:
        tools = self.tools
        report = settle(
            tools.store, tools.leases, tools.settings, self.project_id, found, learned=False
        )
        if report.reason == CHANGED_MEANWHILE:
            return True
        state = PROMOTED if report.kept else REFUSED
        return self._end(row, state, report.reason, version=report.version)

    # The end

    def _cancel(self, row: FineTune) -> bool:
        if self.tools.slot.holds(row.id):
            self.tools.slot.stop()
        elif self._is_anothers(row):
            # The child is another trainer's, which will see the wish itself.
            self._look_again()
            return False
        with self.tools.store.read() as session:
            serving = version_name(session.get_one(Project, self.project_id).champion)
        return self._end(row, CANCELLED, f"Cancelled. {serving} serves as before.")

    def _end(self, row: FineTune, state: str, reason: str, **values: Any) -> bool:
        """Write the end down, and clean up."""
        self._update(row, state=state, reason=reason, finished_at=time.time(), **values)
        FINETUNE_SECONDS.labels(state).observe(time.time() - (row.started_at or row.wanted_at))
        log.info("project %d: %s: %s", self.project_id, sentence(row), reason)
        shutil.rmtree(
            project_folder(self.tools.settings.data_dir, self.project_id), ignore_errors=True
        )
        forget_unneeded(self.tools.store, self.tools.settings)
        return True

    def _is_anothers(self, row: FineTune) -> bool:
        """Whether another trainer, which is at work, runs the child."""
        leases = self.tools.leases
        return row.owner != leases.owner and leases.works(row.owner)

    def _gone(self) -> bool:
        with self.tools.store.read() as session:
            return session.get_one(Project, self.project_id).gone

    def _under_way(self) -> FineTune | None:
        with self.tools.store.read() as session:
            return under_way(session, self.project_id)

    def _update(self, row: FineTune, **values: Any) -> None:
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

    def _folder(self, row: FineTune) -> Path:
        return job_folder(self.tools.settings.data_dir, self.project_id, row.id)

    def _look_again(self) -> None:
        self._wake_before(time.time() + LOOK_SECONDS)


def comparable(champion: Artifact, base: str) -> bool:
    """Whether a version reads the backbone ``base``, or one that was tuned from it."""
    return tuned_base(champion) == base


def _merged(before: dict[str, Any], at: Progress) -> dict[str, Any]:
    kept = {"failed_at": before["failed_at"]} if "failed_at" in before else {}
    return {**at.model_dump(), **kept}
