"""Two versions side by side, on the same held-out images as they are labelled now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.dataset import LabelledImages, labelled_images
from backend.grading import class_probabilities, grade
from backend.judging import count_look
from backend.projects import version_json
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
    versions: list[dict[str, Any]]
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
        if before.backbone != after.backbone:
            why = f"They read features of two networks, {before.backbone} and {after.backbone}."
            return Comparison(project_id, shown, why)
        data = [
            labelled_images(session, project, control, after.backbone, settings.holdout_share)
            for control in controls_of(project)
        ]
    if not any(part.held_out.any() for part in data):
        return Comparison(project_id, shown, "There are no held-out labels yet.")
    with store.write() as session:
        count_look(session, project_id)
    tasks = np.concatenate([part.task_ids[part.held_out] for part in data])
    one, other = _right(before, data), _right(after, data)
    return Comparison(
        project_id,
        shown,
        images=len(tasks),
        accuracies=(float(one.mean()), float(other.mean())),
        gained=[int(task) for task in tasks[other & ~one]],
        lost=[int(task) for task in tasks[one & ~other]],
    )


def _right(artifact: Artifact, data: list[LabelledImages]) -> NDArray[np.bool_]:
    return np.concatenate([_right_of(artifact.heads.get(p.control.name), p) for p in data])


def _right_of(head: Head | None, part: LabelledImages) -> NDArray[np.bool_]:
    """Of each held-out image (n,): whether a head is right; a class it lacks it never chooses."""
    targets = part.targets[part.held_out]
    if head is None or head.multiple != part.control.multiple:
        return np.zeros(len(targets), dtype=np.bool_)
    probabilities = class_probabilities(head, part.control, part.embeddings[part.held_out])
    return grade(head, part.control, probabilities, targets).right
