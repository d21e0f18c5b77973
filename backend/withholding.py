"""Which images people see without a ticked choice, and why.

The draws are by digest, so that servers and trainers that have the same settings agree, and
near-duplicates are treated alike. What is withheld keeps its score, and with it its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.groups import KnownImages
from backend.settings import Settings
from model.audit import in_audit, in_blind

TICKED, AUDIT, BLIND = "ticked", "audit", "blind"


@dataclass(frozen=True)
class Withholding:
    """The draws of one project: the audit set comes first, the blind share is of the rest."""

    project_id: int
    audit_share: float
    blind_share: float

    @classmethod
    def of(cls, project_id: int, settings: Settings) -> Withholding:
        """As the settings have it."""
        return cls(project_id, settings.audit_share, settings.blind_share)

    def state(self, leader: str) -> str:
        """How the images of a group are shown; ``leader`` is the digest of its leader."""
        if in_audit(leader, self.audit_share):
            return AUDIT
        return BLIND if in_blind(leader, self.project_id, self.blind_share) else TICKED

    def withheld(self, images: KnownImages) -> dict[int, str]:
        """Task → why its image has no ticked choice, for those that have none."""
        names, place = np.unique(images.leaders, return_inverse=True)
        states = [self.state(leader.decode()) for leader in names.tolist()]
        return {
            task_id: states[position]
            for task_id, position in zip(images.task_ids.tolist(), place.tolist(), strict=True)
            if states[position] != TICKED
        }
