"""The step that pauses a promise of automatic labels as soon as its checks contradict it."""

from __future__ import annotations

import logging

from backend.promises import contradicted_runs, pause_contradicted
from backend.tools import Tools

log = logging.getLogger(__name__)


class PromiseSteps:
    """The promises of one project. The step returns True when it did something."""

    def __init__(self, tools: Tools, project_id: int) -> None:
        self.tools = tools
        self.project_id = project_id

    def promise(self) -> bool:
        """Look at the labels of check images that have come."""
        store = self.tools.store
        with store.read() as session:
            if not contradicted_runs(session, self.project_id):
                return False
        with store.write() as session:
            self.tools.leases.check(session, self.project_id)
            paused = pause_contradicted(session, self.project_id)
        for each in paused:
            log.warning(
                "project %d: promise %d is paused: %s", self.project_id, each.run, each.reason
            )
        return bool(paused)
