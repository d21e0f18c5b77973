"""What people agreed on, with the image that it is about: the rows of an export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from backend.groups import leaders_of
from backend.images import shortened
from backend.label_config import Control
from backend.tables import ImageSource, Label, Project, TaskImage
from backend.task_rows import AGREED, GONE
from model.audit import in_audit


@dataclass(frozen=True)
class ExportedLabel:
    """The agreed label of one task and control.

    ``choices``  one class, or of a multiple control any number, in the order of the config
    ``audit``    its image is in the audit set, so no version has learned from it
    ``uri``      address of the image, without queries and what else may be secret
    ``digest``   SHA-256 of the image's bytes; empty while it could not be had
    """

    task_id: int
    control: str
    data_key: str
    choices: tuple[str, ...]
    votes: int
    audit: bool
    uri: str
    digest: str


@dataclass(frozen=True)
class ExportedLabels:
    """The rows of an export, by task and control, and how many labels are none of them.

    ``left_out``  why (tied, outside, …) → labels that nobody can learn from
    """

    controls: tuple[Control, ...]
    rows: list[ExportedLabel]
    left_out: dict[str, int]


def read_labels(
    session: Session, project: Project, controls: Sequence[Control], audit_share: float
) -> ExportedLabels:
    """The labels of a project as its controls are now."""
    by_name = {control.name: control for control in controls}
    left_out = Counter[str]()
    kept: list[tuple[Label, tuple[str, ...]]] = []
    query = select(Label).where(Label.project_id == project.id, Label.status != GONE)
    for label in session.scalars(query.order_by(Label.task_id, Label.control)):
        choices, why = _learnable(label, by_name.get(label.control))
        if why:
            left_out[why] += 1
        else:
            kept.append((label, choices))
    images = _images(session, project.id)
    digests = {digest for _, digest in images.values() if digest}
    audit = _audit(session, project.id, digests, audit_share)
    rows = []
    for label, choices in kept:
        data_key = by_name[label.control].data_key
        uri, digest = images.get((label.task_id, data_key), ("", ""))
        rows.append(
            ExportedLabel(
                label.task_id,
                label.control,
                data_key,
                choices,
                label.votes,
                digest in audit,
                shortened(uri),
                digest,
            )
        )
    return ExportedLabels(tuple(controls), rows, dict(left_out))


def _learnable(label: Label, control: Control | None) -> tuple[tuple[str, ...], str]:
    """The choices of a label, or why they cannot be learned."""
    if control is None:
        return (), "control not in the config"
    if label.status != AGREED:
        return (), label.status
    choices = tuple(name for name in control.classes if name in label.choices)
    if len(choices) < len(label.choices) or (not control.multiple and len(choices) != 1):
        return (), "outside"
    return choices, ""


def _images(session: Session, project_id: int) -> dict[tuple[int, str], tuple[str, str]]:
    """Task and data key → address and digest of the image, empty while it could not be had."""
    query = (
        select(TaskImage.task_id, TaskImage.data_key, TaskImage.uri, ImageSource.digest)
        .outerjoin(ImageSource, ImageSource.source == TaskImage.source)
        .where(TaskImage.project_id == project_id)
        .where(exists().where(Label.project_id == project_id, Label.task_id == TaskImage.task_id))
    )
    return {(task, key): (uri, digest or "") for task, key, uri, digest in session.execute(query)}


def _audit(
    session: Session, project_id: int, digests: Collection[str], share: float
) -> frozenset[str]:
    """Of these images those that are in the audit set."""
    leaders = leaders_of(session, project_id, sorted(digests))
    return frozenset(digest for digest, leader in leaders.items() if in_audit(leader, share))
