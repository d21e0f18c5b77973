"""Two versions side by side, on the same held-out images as they are labelled now."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backend.dataset import LabelledImages, in_common, labelled_images
from backend.grading import class_probabilities, grade
from backend.judging import count_look
from backend.predictions import head_of
from backend.projects import VersionJson, version_json
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of
from backend.tables import Project
from backend.versions import get_version, load_version
from model.artifact import Artifact
from model.head import Head


@dataclass(frozen=True)
class Comparison:
    """What two versions get right.

    ``images`` held-out labels of all controls were looked at; ``accuracies`` are the shares that
    the first and the second get right, None without any. ``gained`` are the tasks that only the
    second gets right, ``lost`` those that only the first does: one entry for each control.
    ``note`` says why nothing could be compared.
    """

    project: int
    versions: list[VersionJson]
    note: str = ""
    images: int = 0
    accuracies: tuple[float | None, float | None] = (None, None)
    gained: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


def compare_versions(
    store: Store, settings: Settings, project_id: int, first: int, second: int
) -> Comparison:
    """Compare two versions; a look at the held-out labels that is counted.

    Raises:
        SetupError: one of them does not exist or was pruned.
        ArtifactError: the files of one are missing or damaged.
    """
    with store.read() as session:
        project = session.get_one(Project, project_id)
        rows = [get_version(session, project_id, number) for number in (first, second)]
        before, after = (load_version(settings, project_id, row) for row in rows)
        shown = [version_json(row, project.champion) for row in rows]
        controls = controls_of(project)
        seen = [
            [
                labelled_images(session, project, control, backbone, settings.audit_share)
                for control in controls
            ]
            for backbone in (before.backbone, after.backbone)
        ]
    # Two networks may have embedded different images; only what both can judge is compared.
    pairs = [in_common(first, second) for first, second in zip(*seen, strict=True)]
    theirs, data = [one for one, _ in pairs], [other for _, other in pairs]
    if not any(part.held_out.any() for part in data):
        why = "There are no held-out labels yet."
        if before.backbone != after.backbone:
            why = (
                "There is no held-out label whose image is embedded by both of their networks, "
                f"{before.backbone} and {after.backbone}."
            )
        return Comparison(project_id, shown, why)
    with store.write() as session:
        count_look(session, project_id)
    tasks = np.concatenate([part.task_ids[part.held_out] for part in data])
    one, other = _right(before, theirs), _right(after, data)
    return Comparison(
        project_id,
        shown,
        images=len(tasks),
        accuracies=(float(one.mean()), float(other.mean())),
        gained=[int(task) for task in tasks[other & ~one]],
        lost=[int(task) for task in tasks[one & ~other]],
    )


def _right(artifact: Artifact, data: list[LabelledImages]) -> NDArray[np.bool_]:
    return np.concatenate([_right_of(head_of(artifact, p.control), p) for p in data])


def _right_of(head: Head | None, part: LabelledImages) -> NDArray[np.bool_]:
    """Of each held-out image (n,): whether a head is right; a class it lacks it never chooses."""
    targets = part.targets[part.held_out]
    if head is None:
        return np.zeros(len(targets), dtype=np.bool_)
    probabilities = class_probabilities(head, part.control, part.embeddings[part.held_out])
    return grade(head, part.control, probabilities, targets).right
