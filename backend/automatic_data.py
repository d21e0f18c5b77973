"""The answers that Tiebreak accepted by itself, as something to learn from, beside people's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists
from sqlalchemy.orm import Session

from backend.dataset import LabelledImages, encode_targets
from backend.groups import known_images
from backend.promises import learnable_answers
from backend.tables import AutoLabel, AutoRun, Project, TaskImage


@dataclass(frozen=True, eq=False)
class AutomaticImages:
    """(n,) tasks with their (n, d) embeddings and (n,) targets, positions in the classes; each
    teaches ``weight`` times as much as a person's label."""

    task_ids: NDArray[np.int64]
    embeddings: NDArray[Any]
    targets: NDArray[np.int64]
    weight: float


def automatic_images(
    session: Session,
    project: Project,
    part: LabelledImages,
    backbone: str,
    weight: float,
    audit_share: float,
) -> AutomaticImages | None:
    """What can be learned from beside the people's labels ``part`` of a control; None for nothing.

    Nothing of the audit set, of several choices, or of a class that no person's label to learn from
    has.
    """
    control = part.control
    answers = learnable_answers(session, project.id, control.name) if weight else {}
    if control.multiple or not answers:
        return None
    accepted = exists().where(
        AutoLabel.task_id == TaskImage.task_id,
        AutoLabel.annotation_id.is_not(None),
        AutoRun.id == AutoLabel.run_id,
        AutoRun.project_id == project.id,
    )
    found = known_images(session, project.id, control.data_key, backbone, accepted)
    taught = np.unique(part.targets[~part.held_out])
    names = {control.classes[position] for position in taught.tolist()}
    said = [answers.get(task_id, "") for task_id in found.task_ids.tolist()]
    kept = np.array([choice in names for choice in said], dtype=np.bool_)
    kept &= ~found.in_audit(audit_share) & ~np.isin(found.task_ids, part.task_ids)
    if not kept.any():
        return None
    choices = [[choice] for choice, fits in zip(said, kept, strict=True) if fits]
    targets = encode_targets(choices, control)
    return AutomaticImages(found.task_ids[kept], found.embeddings[kept], targets, weight)
