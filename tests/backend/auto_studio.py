"""A project whose version may accept its own answers, in a small Label Studio."""

from __future__ import annotations

from typing import Any

import numpy as np

from backend.auto_label import Accepting, begin_run
from backend.auto_plan import Plan, make_plan
from backend.labels import parse_annotation
from backend.labelstudio import LabelStudio
from backend.promises import RunStatus, run_statuses
from backend.settings import Settings
from backend.tables import Project
from backend.versions import get_version, load_version
from model.audit import in_audit, in_check
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.saved_versions import save_version
from tests.backend.small_label_studio import SmallLabelStudio

TASKS, AUDIT, CHECK = 100, 0.4, 0.2
MAX_ERROR = 0.2
CLASSES = ("cat", "dog", "owl")


class AutoStudio:
    """Tasks of three kinds that the version tells apart, with the audit images labelled."""

    def __init__(
        self, tables: Tables, settings: Settings, server: SmallLabelStudio, client: LabelStudio
    ) -> None:
        self.tables, self.server, self.client = tables, server, client
        self.settings = settings.model_copy(update={"audit_share": AUDIT, "check_share": CHECK})
        self.truth = dict(enumerate(tables.clusters(TASKS), 1))
        for task in self.truth:
            server.tasks[task] = {"id": task, "data": {}, "annotations": [], "updated_at": ""}
        self.audit = {t for t in self.truth if in_audit(digest_of(t), AUDIT)}
        self.checks = {t for t in self.truth if in_check(digest_of(t), CHECK)} - self.audit
        self.rest = self.truth.keys() - self.audit - self.checks
        for task in self.audit:
            tables.label(task, self.truth[task])
        weights = np.eye(16, 3, dtype=np.float32) * 20
        save_version(tables, self.settings, 1, weights=weights, backbone=BACKBONE)

    def plan(self, max_error: float = MAX_ERROR, *, per_class: bool = False) -> Plan:
        with self.tables.store.read() as session:
            project = session.get_one(Project, 1)
            artifact = load_version(self.settings, 1, get_version(session, 1, 1))
            return make_plan(
                session,
                project,
                artifact,
                self.settings,
                max_error=max_error,
                confidence=0.95,
                per_class=per_class,
            )

    def begin(self) -> int:
        with self.tables.store.write() as session:
            return begin_run(session, 1, self.plan(), MAX_ERROR, 0.95).id

    def accepting(self, run: int, owner: str = "me") -> Accepting:
        return Accepting(self.tables.store, self.client, run, owner, 0.0)

    def held(self) -> dict[int, list[Any]]:
        """Task → its annotations in Label Studio, parsed; only tasks with some."""
        return {
            number: [parse_annotation(a, number) for a in task["annotations"]]
            for number, task in self.server.tasks.items()
            if task["annotations"]
        }

    def statuses(self) -> list[RunStatus]:
        with self.tables.store.read() as session:
            return run_statuses(session, 1)
