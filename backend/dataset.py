"""What there is to learn from: the agreed labels with the embeddings of their images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from backend.groups import known_images
from backend.label_config import Control
from backend.promises import learnable_answers
from backend.sync import controls_of
from backend.tables import Label, Project, TaskImage
from backend.task_rows import AGREED


@dataclass(frozen=True)
class LabelledImages:
    """The labels of one control whose images are embedded, in or out of the audit set.

    ``targets`` is (n,) int positions in the control's classes, or (n, k) bool for a multiple one;
    ``digests`` are the n SHA-256 of the images, ``leaders`` those of the leaders of their groups.
    """

    control: Control
    task_ids: NDArray[Any]
    embeddings: NDArray[Any]
    targets: NDArray[Any]
    held_out: NDArray[Any]
    digests: NDArray[Any]
    leaders: NDArray[Any]

    def rows(self, chosen: NDArray[Any]) -> LabelledImages:
        """Those at the positions or flags ``chosen``."""
        return LabelledImages(
            self.control,
            self.task_ids[chosen],
            self.embeddings[chosen],
            self.targets[chosen],
            self.held_out[chosen],
            self.digests[chosen],
            self.leaders[chosen],
        )

    @property
    def enough(self) -> bool:
        """Whether a head can be fitted on what is not held out."""
        fitted = self.targets[~self.held_out]
        if self.control.multiple:
            return bool(len(fitted)) and bool((fitted.any(axis=0) & ~fitted.all(axis=0)).any())
        return len(np.unique(fitted)) >= 2


@dataclass(frozen=True)
class LearningState:
    """What could be learned now, and what the last training already saw."""

    digest: str
    setup: str
    labels: int
    changed: int


def learning_state(
    session: Session, project: Project, backbone: str, auto_label_weight: float = 0.0
) -> LearningState:
    """Digest and counts of the labels as they are now. ``backbone`` is its identity. Automatic
    labels are in the digest where they are learned from, with that weight, and never counted."""
    rows = session.execute(
        select(Label.task_id, Label.control, Label.status, Label.choices, Label.learned).where(
            Label.project_id == project.id
        )
    ).all()
    agreed = sorted((t, c, choices) for t, c, status, choices, _ in rows if status == AGREED)
    changed = sum(
        (choices if status == AGREED else None) != learned
        for _, _, status, choices, learned in rows
    )
    controls = [(c.name, c.data_key, c.classes, c.multiple) for c in controls_of(project)]
    setup = _digest([controls, backbone])
    learned: list[Any] = [agreed, setup]
    if auto_label_weight and (automatic := _automatic(session, project)):
        learned += [automatic, auto_label_weight]
    return LearningState(_digest(learned), setup, len(agreed), changed)


def _automatic(session: Session, project: Project) -> list[list[Any]]:
    """The automatic labels that can be learned from, in no particular order."""
    found = {c.name: learnable_answers(session, project.id, c.name) for c in controls_of(project)}
    return sorted([task, name, said] for name, each in found.items() for task, said in each.items())


def labelled_images(
    session: Session, project: Project, control: Control, backbone: str, audit_share: float
) -> LabelledImages:
    """The agreed labels of a control, with their embeddings."""
    labelled = exists().where(
        Label.project_id == project.id,
        Label.task_id == TaskImage.task_id,
        Label.control == control.name,
        Label.status == AGREED,
    )
    key = control.data_key
    found = known_images(session, project.id, key, backbone, labelled, with_digests=True)
    agreed = select(Label.task_id, Label.choices).where(
        Label.project_id == project.id,
        Label.control == control.name,
        Label.status == AGREED,
    )
    choices = {row.task_id: row.choices for row in session.execute(agreed)}
    said = [choices[int(task_id)] for task_id in found.task_ids]
    # A config that has just changed is known here before its labels have been read anew.
    fits = np.array([fits_control(each, control) for each in said], dtype=bool)
    return LabelledImages(
        control,
        found.task_ids[fits],
        found.embeddings[fits],
        encode_targets([each for each, kept in zip(said, fits, strict=True) if kept], control),
        found.in_audit(audit_share)[fits],
        found.digests[fits].astype("U64"),
        found.leaders[fits].astype("U64"),
    )


def in_common(one: LabelledImages, other: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """The tasks that both have, in the same order: two networks may not know the same ones yet."""
    _, here, there = np.intersect1d(one.task_ids, other.task_ids, return_indices=True)
    return one.rows(here), other.rows(there)


def encode_targets(choices: Sequence[Sequence[str]], control: Control) -> NDArray[Any]:
    """Choices → (n,) int64 positions in the classes, or (n, k) bool for a multiple control."""
    position = {name: i for i, name in enumerate(control.classes)}
    if not control.multiple:
        return np.array([position[picked[0]] for picked in choices], dtype=np.int64)
    targets = np.zeros((len(choices), len(position)), dtype=bool)
    for row, picked in enumerate(choices):
        targets[row, [position[name] for name in picked]] = True
    return targets


def fits_control(choices: Sequence[str], control: Control) -> bool:
    """Whether a label is one that the control of today can give."""
    return set(choices) <= set(control.classes) and (control.multiple or len(choices) == 1)


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
