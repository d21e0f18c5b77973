"""How common each class is: among the labels, and by the audit labels in the whole pool.

Labels that were chosen by the queue say nothing of how common a class is; the audit labels were
drawn by chance, so the estimate stands on them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.dataset import fits_control
from backend.label_config import Control
from backend.tables import ImageGroup, ImageSource, Label, Project, TaskImage
from backend.task_rows import AGREED
from model.audit import AuditEstimate, audit_accuracy, in_audit


@dataclass(frozen=True)
class ClassShare:
    """One class: how many ``labels`` name it, and its estimated share of the ``pool``."""

    name: str
    labels: int
    pool: AuditEstimate


@dataclass(frozen=True)
class ClassBalance:
    """The classes of a control in the order of the config.

    ``labels`` agreed labels in all, ``audited`` of them on images of the audit set.
    """

    labels: int
    audited: int
    classes: list[ClassShare]

    @property
    def largest(self) -> int:
        """Labels of the most common class; at least 1."""
        return max([1, *(each.labels for each in self.classes)])


def class_balance(
    session: Session, project: Project, control: Control, audit_share: float
) -> ClassBalance:
    """Count the agreed labels of a control, and estimate the pool from those of the audit set.

    The estimate of each class is :func:`model.audit.audit_accuracy` of the flags of the labels that
    name it: Wilson's interval, near-duplicates together telling less. An image without a group yet
    is not in the audit set.
    """
    rows = [row for row in _labels(session, project.id, control) if fits_control(row[0], control)]
    audit = [(choices, leader) for choices, leader in rows if _audited(leader, audit_share)]
    groups = np.unique([leader for _, leader in audit], return_inverse=True)[1]
    return ClassBalance(
        len(rows),
        len(audit),
        [
            ClassShare(
                name,
                sum(name in choices for choices, _ in rows),
                audit_accuracy(np.array([name in c for c, _ in audit], dtype=np.bool_), groups),
            )
            for name in control.classes
        ],
    )


def _labels(
    session: Session, project_id: int, control: Control
) -> list[tuple[list[str], str | None]]:
    """Choices of each agreed label, and the leader of its image's group."""
    query = (
        select(Label.choices, ImageGroup.leader)
        .join(
            TaskImage,
            (TaskImage.project_id == Label.project_id)
            & (TaskImage.task_id == Label.task_id)
            & (TaskImage.data_key == control.data_key),
        )
        .outerjoin(ImageSource, ImageSource.source == TaskImage.source)
        .outerjoin(
            ImageGroup,
            (ImageGroup.project_id == project_id) & (ImageGroup.digest == ImageSource.digest),
        )
        .where(
            Label.project_id == project_id, Label.control == control.name, Label.status == AGREED
        )
    )
    return [(choices, leader) for choices, leader in session.execute(query)]


def _audited(leader: str | None, share: float) -> bool:
    return leader is not None and in_audit(leader, share)
