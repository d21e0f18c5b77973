"""The version that serves a project, put together again for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backend.champion import Champions
from backend.errors import SetupError
from backend.label_config import Control
from backend.predictions import head_of
from backend.settings import Settings
from backend.shared_files import shared_files
from backend.store import Store
from backend.sync import controls_of
from backend.tables import Project, Version
from model.artifact import Artifact
from model.head import Head


@dataclass(frozen=True, eq=False)
class ServedModel:
    """What answers a project: of each control that it has today the head, and its metrics.

    ``heads``    control → its head, with only the classes that the config still has
    ``metrics``  what the version's row says of how good it is
    """

    project_id: int
    title: str
    artifact: Artifact
    controls: tuple[Control, ...]
    heads: Mapping[str, Head]
    metrics: Mapping[str, Any]


def served_model(store: Store, settings: Settings, project_id: int) -> ServedModel:
    """The version that serves; :class:`SetupError` while there is none that fits the config."""
    champions = Champions(store, settings.data_dir, shared_files(settings))
    artifact = champions.get(project_id)
    if artifact is None:
        raise SetupError(
            "No version serves this project: nothing is learned yet, or its files are damaged.",
            mend="See tiebreak status, and label some images of every class.",
        )
    with store.read() as session:
        project = session.get_one(Project, project_id)
        row = session.get(Version, (project_id, artifact.version))
        title, metrics = project.title, dict(row.metrics) if row is not None else {}
        controls = controls_of(project)
    heads = _heads(artifact, controls)
    if not heads:
        raise SetupError(
            "The version that serves has learned nothing that the labelling config asks for.",
            mend="Wait for the next training: see tiebreak status",
        )
    answered = tuple(control for control in controls if control.name in heads)
    return ServedModel(project_id, title, artifact, answered, heads, metrics)


def _heads(artifact: Artifact, controls: Sequence[Control]) -> dict[str, Head]:
    heads = {}
    for control in controls:
        head = head_of(artifact, control)
        kept = [i for i, name in enumerate(head.classes) if name in control.classes] if head else []
        if head is not None and kept:
            heads[control.name] = _restricted(head, np.array(kept))
    return heads


def _restricted(head: Head, kept: np.ndarray[Any, np.dtype[np.int64]]) -> Head:
    """The head of some of its classes: a softmax of fewer logits is what is left, scaled to 1."""
    return replace(
        head,
        classes=tuple(head.classes[i] for i in kept),
        weights=np.ascontiguousarray(head.weights[:, kept]),
        bias=head.bias[kept],
        temperature=head.temperature[kept] if head.multiple else head.temperature,
        thresholds=None if head.thresholds is None else head.thresholds[kept],
    )
