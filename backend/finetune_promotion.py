"""When the child of a fine-tune is done: judge the network, embed the pool with it, promote it.

A version never serves before all images that can be had are embedded for it: until then the
champion serves as before.
"""

from __future__ import annotations

from dataclasses import replace

from backend.candidate import Candidate, challenge
from backend.errors import EngineError
from backend.finetune_record import FineTuneRecord
from backend.finetunes import EMBEDDING, FAILED, JUDGING, PROMOTED, REFUSED
from backend.judging import count_look
from backend.pool import count_images, embed_chunk
from backend.shared_files import shared_files
from backend.tables import FineTune, Project
from backend.tools import Tools
from backend.training import CHANGED_MEANWHILE, TOO_LITTLE, settle
from backend.tuned_networks import (
    TunedNetwork,
    comparable,
    fetch_network,
    find_tuned,
    tuned_folder,
)
from model.errors import StorageError, TiebreakError


class FineTunePromotion:
    """The way of a project's tuned network to the champion's place."""

    def __init__(self, tools: Tools, record: FineTuneRecord) -> None:
        self.tools = tools
        self.project_id = record.project_id
        self._record = record

    def go_on(self, row: FineTune) -> bool:
        """Embed the next images; when there are none left, let the gate judge."""
        folder = tuned_folder(self.tools.settings.data_dir)
        if shared := shared_files(self.tools.settings):
            fetch_network(shared, folder, row.backbone)
        tuned = find_tuned(folder, row.backbone)
        if tuned is None or tuned.base != self.tools.engine.backbone:
            what = "is missing" if tuned is None else "is not of the backbone that is set now"
            return self._record.end(row, FAILED, f"The fine-tuned network {row.backbone} {what}.")
        if self._embed(row, tuned):
            return True
        return self._judge(row, tuned) if row.state == JUDGING else self._promote(row, tuned)

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
        except (StorageError, EngineError):
            raise
        except TiebreakError as error:
            return self._record.end(row, FAILED, str(error))
        if done and row.state == EMBEDDING:
            with tools.store.read() as session:
                counts = count_images(session, self.project_id, tuned.identity)
            at = {"embedded": counts.embedded, "images": counts.images - counts.failed}
            self._record.update(row, progress={**row.progress, **at})
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
            return self._record.end(row, FAILED, f"{TOO_LITTLE}.")
        if not found.decision.promote:
            return self._settle(row, found)
        if found.decision.n:
            # No version is written yet that could say that the held-out labels were looked at.
            with self.tools.store.write() as session:
                self.tools.leases.check(session, self.project_id)
                count_look(session, self.project_id)
        self._record.update(row, state=EMBEDDING, reason=found.decision.reason)
        return True

    def _promote(self, row: FineTune, tuned: TunedNetwork) -> bool:
        """All is embedded: meet the champion of now, on the labels of now."""
        found = self._challenge(row, tuned)
        if found is None:
            return self._record.end(row, FAILED, f"{TOO_LITTLE}.")
        return self._settle(row, found)

    def _settle(self, row: FineTune, found: Candidate) -> bool:
        tools = self.tools
        report = settle(
            tools.store, tools.leases, tools.settings, self.project_id, found, learned=False
        )
        if report.reason == CHANGED_MEANWHILE:
            return True
        state = PROMOTED if report.kept else REFUSED
        return self._record.end(row, state, report.reason, version=report.version)
