"""The steps of a fine-tune: start the child, follow it, let the gate judge, embed, promote.

Each step is small and committed before the next, and heads go on learning on the old backbone in
between. A version never serves before all images that can be had are embedded for it: until then
the champion serves as before. What a step needs is in the table of fine-tunes and in the folder of
:mod:`backend.finetune_files`, so a trainer killed at any instant is followed by one that goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from backend import clock
from backend.finetune_child import LOOK_SECONDS
from backend.finetune_preparation import FineTunePreparation
from backend.finetune_promotion import FineTunePromotion
from backend.finetune_record import FineTuneRecord
from backend.finetune_run import FineTuneRun
from backend.finetunes import CANCELLED, EMBEDDING, JUDGING, TRAINING, WAITING
from backend.log_context import following, log_context
from backend.tables import FineTune, Project, version_name
from backend.tools import Tools


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
        self._record = FineTuneRecord(tools, project_id)
        self._preparation = FineTunePreparation(tools, self._record, wake_before)
        self._run = FineTuneRun(tools, self._record, wake_before)
        self._promotion = FineTunePromotion(tools, self._record)

    # Both return True when something was done, as the steps of the reconciler do.

    def tend(self) -> bool:
        """Start or follow the child, or give the fine-tune up that somebody cancelled."""
        row = self._record.under_way()
        if row is None:
            return False
        with log_context(**following([row.request_id])):
            return self._tend(row)

    def work(self) -> bool:
        """Write down that one is due; or go on with one whose child is done."""
        row = self._record.under_way()
        if row is None:
            return self._preparation.want_when_due()
        if row.cancel or row.state not in (JUDGING, EMBEDDING):
            return False
        with log_context(**following([row.request_id])):
            return self._promotion.go_on(row)

    def _tend(self, row: FineTune) -> bool:
        if row.cancel or self._gone():
            return self._cancel(row)
        if row.state == WAITING:
            return self._preparation.prepare(row)
        if row.state == TRAINING:
            return self._run.follow(row)
        return False

    def _cancel(self, row: FineTune) -> bool:
        if self.tools.slot.holds(row.id):
            self.tools.slot.stop()
        elif self._record.is_anothers(row):
            # The child is another trainer's, which will see the wish itself.
            self._wake_before(clock.now() + LOOK_SECONDS)
            return False
        with self.tools.store.read() as session:
            serving = version_name(session.get_one(Project, self.project_id).champion)
        return self._record.end(row, CANCELLED, f"Cancelled. {serving} serves as before.")

    def _gone(self) -> bool:
        with self.tools.store.read() as session:
            return session.get_one(Project, self.project_id).gone
