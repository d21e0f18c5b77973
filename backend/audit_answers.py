"""Which images stand behind a cell of the confusion matrix: the audit images of one pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from backend.dataset import LabelledImages, labelled_images
from backend.grading import class_probabilities
from backend.label_config import Control
from backend.predictions import chosen_from, head_of
from backend.settings import Settings
from backend.tables import Project, Version
from backend.versions import load_version
from model.head import Head


@dataclass(frozen=True)
class Answer:
    """An audit image and how sure the version is: ``probability`` is that of what it says, of a
    class that it does not tick that of the class."""

    task: int
    probability: float


def answers_behind(
    session: Session,
    project: Project,
    control: Control,
    settings: Settings,
    truth: str,
    said: str,
) -> list[Answer]:
    """The audit images that people call ``truth`` and the version that serves calls ``said``, the
    surest first, as they are labelled now.

    Of several choices either may be empty: ``truth`` alone for images where that class was missed,
    ``said`` alone for those where it should not have been ticked. Empty while nothing serves, or
    where the version has not learned the control or the classes.

    Raises:
        SetupError: its files were pruned.
        ArtifactError: its files are missing or damaged.
    """
    version = session.get(Version, (project.id, project.champion))
    if version is None or not {truth, said} - {""} <= set(control.classes):
        return []
    artifact = load_version(settings, project.id, version)
    head = head_of(artifact, control)
    part = labelled_images(session, project, control, artifact.backbone, settings.audit_share)
    audit = part.rows(part.held_out)
    if head is None or not len(audit.task_ids):
        return []
    probabilities = class_probabilities(head, control, audit.embeddings)
    shown = control.classes.index(said or truth)
    chosen = np.flatnonzero(_behind(head, audit, probabilities, truth, said))
    found = [Answer(int(audit.task_ids[i]), float(probabilities[i, shown])) for i in chosen]
    return sorted(found, key=lambda answer: (-answer.probability, answer.task))


def _behind(
    head: Head, audit: LabelledImages, probabilities: NDArray[np.float64], truth: str, said: str
) -> NDArray[np.bool_]:
    """(n,) which images are of the pair."""
    classes = audit.control.classes
    if not audit.control.multiple:
        if not truth or not said:
            return np.zeros(len(audit.targets), dtype=np.bool_)
        right = audit.targets == classes.index(truth)
        return np.asarray(right & (probabilities.argmax(axis=1) == classes.index(said)))
    column = classes.index(truth or said)
    ticked = probabilities[:, column] >= chosen_from(head, classes)[column]
    true = audit.targets[:, column]
    return np.asarray((true == bool(truth)) & (ticked == bool(said)))
