"""One training: labels and embeddings → heads → gate → a version on disk → the champion.

Nothing that serves is touched before the last transaction, which writes the version, the champion
and what was learned together. Killed before it, a training leaves at most a folder that the next
one clears away.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from backend.champion import artifact_folder
from backend.label_config import Control
from backend.lease import Leases
from backend.pool import load_embeddings
from backend.projects import newest_version
from backend.settings import Settings
from backend.store import Store
from backend.sync import AGREED, GONE, controls_of
from backend.tables import Label, Project, TaskImage, Version
from model.artifact import Artifact, save_artifact
from model.audit import in_holdout
from model.gate import GateDecision, decide
from model.head import Head, HeadFit, fit_head

log = logging.getLogger(__name__)

TOO_LITTLE = "labels of at least two different classes are needed"


@dataclass(frozen=True)
class LabelledImages:
    """The labels of one control whose images are embedded, in or out of the holdout.

    ``targets`` is (n,) int positions in the control's classes, or (n, k) bool for a multiple one.
    """

    control: Control
    task_ids: NDArray[Any]
    embeddings: NDArray[Any]
    targets: NDArray[Any]
    held_out: NDArray[Any]

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


@dataclass(frozen=True)
class TrainingReport:
    """What came out of a training. ``version`` is None when there was too little to learn from."""

    version: int | None
    kept: bool
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)


def learning_state(session: Session, project: Project, backbone: str) -> LearningState:
    """Digest and counts of the labels as they are now. ``backbone`` is its identity."""
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
    return LearningState(_digest([agreed, setup]), setup, len(agreed), changed)


def labelled_images(
    session: Session, project: Project, control: Control, backbone: str, holdout_share: float
) -> LabelledImages:
    """The agreed labels of a control, with their embeddings."""
    labelled = exists().where(
        Label.project_id == project.id,
        Label.task_id == TaskImage.task_id,
        Label.control == control.name,
        Label.status == AGREED,
    )
    ids, vectors, digests = load_embeddings(
        session, project.id, control.data_key, backbone, labelled
    )
    agreed = select(Label.task_id, Label.choices).where(
        Label.project_id == project.id,
        Label.control == control.name,
        Label.status == AGREED,
    )
    choices = {row.task_id: row.choices for row in session.execute(agreed)}
    return LabelledImages(
        control,
        ids,
        vectors,
        encode_targets([choices[int(t)] for t in ids], control),
        np.array([in_holdout(digest, holdout_share) for digest in digests], dtype=bool),
    )


def encode_targets(choices: Sequence[Sequence[str]], control: Control) -> NDArray[Any]:
    """Choices → (n,) int64 positions in the classes, or (n, k) bool for a multiple control."""
    position = {name: i for i, name in enumerate(control.classes)}
    if not control.multiple:
        return np.array([position[picked[0]] for picked in choices], dtype=np.int64)
    targets = np.zeros((len(choices), len(position)), dtype=bool)
    for row, picked in enumerate(choices):
        targets[row, [position[name] for name in picked]] = True
    return targets


def train(
    store: Store,
    leases: Leases,
    settings: Settings,
    project_id: int,
    backbone: str,
    champion: Artifact | None,
) -> TrainingReport:
    """Fit a challenger on all labels and let the gate decide whether it becomes the champion."""
    started = time.time()
    state, data, number = _gather(store, settings, project_id, backbone)
    learnable = [part for part in data if part.enough]
    if not learnable:
        _finish(store, leases, project_id, state, started, None)
        return TrainingReport(None, False, TOO_LITTLE)
    fits = {part.control.name: _fit(part, settings.seed) for part in learnable}
    heads = {name: fit.head for name, fit in fits.items()}
    decision = judge(learnable, heads, champion, backbone, settings.gate_margin)
    metrics = {
        "controls": {name: fit.metrics for name, fit in fits.items()},
        "holdout": asdict(decision),
        "seconds": round(time.time() - started, 3),
    }
    manifest = _manifest(state, settings, metrics)
    save_version(settings.data_dir, project_id, Artifact(number, backbone, heads, manifest))
    version = Version(
        project_id=project_id,
        number=number,
        created_at=time.time(),
        kept=decision.promote,
        reason=decision.reason,
        labels=state.labels,
        backbone=backbone,
        metrics=metrics,
    )
    _finish(store, leases, project_id, state, started, version)
    return TrainingReport(number, decision.promote, decision.reason, metrics)


def judge(
    data: Sequence[LabelledImages],
    heads: Mapping[str, Head],
    champion: Artifact | None,
    backbone: str,
    margin: float,
) -> GateDecision:
    """The gate on the held-out labels of all controls together."""
    challenger_correct = [_correct(heads.get(part.control.name), part) for part in data]
    champion_correct = None
    if champion is not None and champion.backbone == backbone:
        champion_correct = np.concatenate(
            [_correct(champion.heads.get(part.control.name), part) for part in data]
        )
    return decide(champion_correct, np.concatenate(challenger_correct), margin=margin)


def save_version(data_dir: Path, project_id: int, artifact: Artifact) -> None:
    """Write a version's folder; one left behind by a killed training is replaced."""
    folder = artifact_folder(data_dir, project_id, artifact.version)
    if folder.exists():
        shutil.rmtree(folder)
    save_artifact(folder, artifact)


def _gather(
    store: Store, settings: Settings, project_id: int, backbone: str
) -> tuple[LearningState, list[LabelledImages], int]:
    """The labels as they are, with their embeddings, and the number of the next version."""
    with store.read() as session:
        project = session.get_one(Project, project_id)
        data = [
            labelled_images(session, project, control, backbone, settings.holdout_share)
            for control in controls_of(project)
        ]
        newest = newest_version(session, project_id)
        state = learning_state(session, project, backbone)
    return state, data, newest.number + 1 if newest else 1


def _fit(part: LabelledImages, seed: int) -> HeadFit:
    return fit_head(
        part.embeddings[~part.held_out],
        part.targets[~part.held_out],
        classes=part.control.classes,
        multiple=part.control.multiple,
        seed=seed,
    )


def _correct(head: Head | None, part: LabelledImages) -> NDArray[Any]:
    held = part.held_out
    if head is None or not held.any():
        return np.zeros(int(held.sum()), dtype=bool)
    probabilities = head.probabilities(part.embeddings[held])
    names = np.array(head.classes, dtype=object)
    if part.control.multiple:
        predicted = [set(names[row >= 0.5]) for row in probabilities]
        wanted = [
            {part.control.classes[i] for i in np.flatnonzero(row)} for row in part.targets[held]
        ]
        return np.array([p == w for p, w in zip(predicted, wanted, strict=True)], dtype=bool)
    wanted_names = np.array(part.control.classes, dtype=object)[part.targets[held]]
    return np.asarray(names[probabilities.argmax(axis=1)] == wanted_names, dtype=bool)


def _finish(
    store: Store,
    leases: Leases,
    project_id: int,
    state: LearningState,
    started: float,
    version: Version | None,
) -> None:
    with store.write() as session:
        leases.check(session, project_id)
        project = session.get_one(Project, project_id)
        project.attempted, project.attempted_setup = state.digest, state.setup
        project.due_since = None
        if project.train_requested_at is not None and project.train_requested_at <= started:
            project.train_requested_at = None
        if version is None:
            return
        session.add(version)
        if version.kept:
            project.champion = version.number
        for label in session.scalars(select(Label).where(Label.project_id == project_id)):
            if label.status == GONE:
                session.delete(label)
            else:
                label.learned = list(label.choices) if label.status == AGREED else None


def _manifest(
    state: LearningState, settings: Settings, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "labels": state.labels,
        "labels_digest": state.digest,
        "seed": settings.seed,
        "strategy": settings.strategy,
        "metrics": dict(metrics),
        "libraries": _library_versions(),
    }


def _library_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "scikit-learn", "torch", "torchvision")}


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
