"""The steps that look ahead: forecasts for a version, and whether choosing pays.

They come when the queue is sent, and what takes long runs in a process of its own, so that neither
a label nor the new order waits for them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from backend import clock
from backend.orders import RANDOM
from backend.outlook import outlook_of
from backend.payoff import Look, looks_due, record
from backend.payoff_job import read_result, write_job
from backend.pool_priors import pool_embeddings
from backend.projects import newest_version
from backend.sync import controls_of
from backend.tables import Project, Version, version_name
from backend.tools import Tools
from backend.version_metrics import OUTLOOK
from model.files import writing
from model.payoff import Comparison

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0


class OutlookSteps:
    """What lies ahead of one project. Each step returns True when it did something."""

    def __init__(self, tools: Tools, project_id: int, wake: Callable[[float], None]) -> None:
        self.tools = tools
        self.project_id = project_id
        self._wake = wake

    def forecast(self) -> bool:
        """Keep with the newest version what lies ahead of it."""
        with self.tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            version = newest_version(session, self.project_id, refused_fine_tunes=False)
            if project.gone or version is None or OUTLOOK in version.metrics:
                return False
            if "audit" not in version.metrics:
                return False
            found = outlook_of(session, project, controls_of(project), version, self.tools.settings)
        with self.tools.store.write() as session:
            self.tools.leases.check(session, self.project_id)
            row = session.get_one(Version, (self.project_id, version.number))
            row.metrics = {**row.metrics, OUTLOOK: found}
        return True

    def compare(self) -> bool:
        """Compare the queue's picks with chance, when a version has come and the audit set has
        grown; and switch choosing off or on by what was found so far."""
        slot = self.tools.payoffs
        if slot.project_id == self.project_id:
            return self._finish()
        with self.tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            version = newest_version(session, self.project_id, refused_fine_tunes=False)
            if project.gone or version is None or "audit" not in version.metrics:
                return False
            if project.payoff.get("checked") == version.number:
                return False
            looks = self._due(session, project, version)
            tells = any(look.tells for look in looks)
            starts = tells and slot.project_id is None
            pools = self._pools(session, looks, version.backbone) if starts else {}
        if not tells:
            seed = self.tools.settings.seed
            found = [(look.control.name, look.compare(seed)) for look in looks]
            return self._keep(found, version.number)
        self._wake(clock.now() + AGAIN_SECONDS)
        if starts:
            with writing("The comparison of picks", self._folder):
                write_job(self._folder, looks, self.tools.settings.seed, pools)
            slot.start(self.project_id, version.number, self._folder)
        return False

    def _due(self, session: Session, project: Project, version: Version) -> list[Look]:
        settings = self.tools.settings
        if settings.strategy == RANDOM:
            return []
        controls = controls_of(project)
        return looks_due(session, project, controls, version.backbone, settings.audit_share)

    def _pools(
        self, session: Session, looks: Sequence[Look], backbone: str
    ) -> dict[str, NDArray[np.float16]]:
        """Data key → what the heads of its controls listen to besides labels."""
        keys = sorted({look.control.data_key for look in looks if not look.control.multiple})
        found = {key: pool_embeddings(session, self.project_id, key, backbone) for key in keys}
        return {key: rows for key, rows in found.items() if rows is not None}

    @property
    def _folder(self) -> Path:
        return self.tools.settings.data_dir / "payoff" / f"project-{self.project_id}"

    def _finish(self) -> bool:
        """Keep what the child found; when it failed, the next version tries again."""
        slot = self.tools.payoffs
        version = slot.version
        if not slot.ended():
            self._wake(clock.now() + AGAIN_SECONDS)
            return False
        found = read_result(self._folder)
        if found is None:
            log.warning("project %d: comparing picks failed; see %s", self.project_id, self._folder)
            return self._keep([], version)
        shutil.rmtree(self._folder, ignore_errors=True)
        return self._keep(found, version)

    def _keep(self, found: Sequence[tuple[str, Comparison]], number: int) -> bool:
        with self.tools.store.write() as session:
            self.tools.leases.check(session, self.project_id)
            project = session.get_one(Project, self.project_id)
            version = session.get(Version, (self.project_id, number))
            audit = version.metrics.get("audit", {}) if version else {}
            labels = {name: point["labels"] for name, point in audit.items()}
            before = project.choosing
            project.payoff = record(project.payoff, found, number, labels)
            project.choosing = project.payoff["choose"]
            sentence = project.payoff["sentence"]
        if project.choosing != before:
            log.info("project %d, %s: %s", self.project_id, version_name(number), sentence)
        return True
