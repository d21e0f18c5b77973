"""Which images people see without a ticked choice, and why.

The draws are by digest, so that servers and trainers that have the same settings agree, and
near-duplicates are treated alike. What a promise has left to people as a check is written down
(:mod:`backend.promises`). What is withheld keeps its score, and with it its place.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from backend.groups import KnownImages
from backend.settings import Settings
from model.audit import in_audit, in_blind

TICKED, AUDIT, CHECK, BLIND = "ticked", "audit", "check", "blind"


@dataclass(frozen=True)
class Withholding:
    """The draws of one project: the audit set comes first, then ``checks``, the tasks that a
    promise left to people; the blind share is of the rest."""

    project_id: int
    audit_share: float
    blind_share: float
    checks: Collection[int] = ()

    @classmethod
    def of(
        cls, project_id: int, settings: Settings, checks: Collection[int] = frozenset()
    ) -> Withholding:
        """As the settings have it."""
        return cls(project_id, settings.audit_share, settings.blind_share, checks)

    def state(self, leader: str, task_id: int | None = None) -> str:
        """How the images of a group are shown, on a task of that number; ``leader`` is the digest
        of its leader."""
        if in_audit(leader, self.audit_share):
            return AUDIT
        if task_id in self.checks:
            return CHECK
        return BLIND if in_blind(leader, self.project_id, self.blind_share) else TICKED

    def withheld(self, images: KnownImages) -> dict[int, str]:
        """Task → why its image has no ticked choice, for those that have none."""
        names, place = np.unique(images.leaders, return_inverse=True)
        states = [self.state(leader.decode()) for leader in names.tolist()]
        found = {
            task_id: states[position]
            for task_id, position in zip(images.task_ids.tolist(), place.tolist(), strict=True)
            if states[position] != TICKED
        }
        checks = (t for t in images.task_ids.tolist() if t in self.checks)
        return found | {t: CHECK for t in checks if found.get(t) != AUDIT}
