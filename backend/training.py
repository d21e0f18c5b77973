"""One training: labels and embeddings → heads → gate → a version on disk → the champion.

Nothing that serves is touched before the last transaction, which writes the version, the champion
and what was learned together. Killed before it, a training leaves at most a folder that the next
one clears away.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from backend.champion import artifact_folder, replace_champion
from backend.dataset import (
    LabelledImages,
    LearningState,
    in_common,
    labelled_images,
    learning_state,
)
from backend.lease import Leases
from backend.predictions import chosen_from
from backend.projects import newest_version
from backend.settings import Settings
from backend.store import Store
from backend.sync import AGREED, GONE, controls_of
from backend.tables import Label, Project, Version
from backend.tuned_networks import MANIFEST_KEY, TunedNetwork
from model.artifact import Artifact, save_artifact
from model.gate import GateDecision, decide
from model.head import Head, HeadFit, fit_head

log = logging.getLogger(__name__)

SMALLEST_PROBABILITY = 1e-6
CHANGED_MEANWHILE = "another version was promoted by hand meanwhile, so it is done again"
TOO_LITTLE = "labels of at least two different classes are needed"


@dataclass(frozen=True)
class TrainingReport:
    """What came out of a training. ``version`` is None when there was too little to learn from."""

    version: int | None
    kept: bool
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Challenger:
    """Heads fitted on all labels of a moment, and what the gate says of them.

    ``serving`` is the version that served when they met the champion.
    """

    artifact: Artifact
    decision: GateDecision
    metrics: dict[str, Any]
    state: LearningState
    started: float
    serving: int

    def report(self) -> TrainingReport:
        """What came of it."""
        decision = self.decision
        return TrainingReport(
            self.artifact.version, decision.promote, decision.reason, self.metrics
        )


def train(
    store: Store,
    leases: Leases,
    settings: Settings,
    project_id: int,
    backbone: str,
    champion: Artifact | None,
    serving: int | None = None,
    tuned: TunedNetwork | None = None,
) -> TrainingReport:
    """Fit a challenger on all labels and let the gate decide whether it becomes the champion.

    ``backbone`` is the identity of the original one; with ``tuned`` the heads read the embeddings
    of that network, which came from it. ``serving`` is the number of the version that served when
    ``champion`` was read, where that is not ``champion`` itself. Nothing comes of the training when
    another one serves at its end.
    """
    started, serving = time.time(), serving_number(champion, serving)
    found = challenge(store, settings, project_id, backbone, champion, serving, tuned)
    if not isinstance(found, Challenger):
        _finish(store, leases, project_id, found, started, None, serving)
        return TrainingReport(None, False, TOO_LITTLE)
    return settle(store, leases, settings, project_id, found)


def challenge(
    store: Store,
    settings: Settings,
    project_id: int,
    backbone: str,
    champion: Artifact | None,
    serving: int | None = None,
    tuned: TunedNetwork | None = None,
) -> Challenger | LearningState:
    """Fit heads and let them meet the champion; nothing is written. Only the state of the labels,
    when there is too little to learn from. The arguments are those of :func:`train`."""
    started = time.time()
    state, data, number = _gather(store, settings, project_id, backbone, tuned)
    learnable = [part for part in data if part.enough]
    if not learnable:
        return state
    trained = tuned.trained if tuned else frozenset[str]()
    fits = {part.control.name: _fit(part, settings.seed, trained) for part in learnable}
    heads = {name: fit.head for name, fit in fits.items()}
    identity = tuned.identity if tuned else backbone
    rival = None
    if champion is not None and tuned is not None and champion.backbone != identity:
        rival = _as_seen_by(champion, store, settings, project_id, learnable)
    decision = judge(learnable, heads, champion, identity, settings.gate_margin, rival)
    metrics = {
        "controls": {name: fit.metrics for name, fit in fits.items()},
        "holdout": asdict(decision),
        "seconds": round(time.time() - started, 3),
    }
    manifest = _manifest(state, settings, metrics)
    if tuned is not None:
        manifest[MANIFEST_KEY] = tuned.manifest()
    return Challenger(
        Artifact(number, identity, heads, manifest),
        decision,
        metrics,
        state,
        started,
        serving_number(champion, serving),
    )


def settle(
    store: Store,
    leases: Leases,
    settings: Settings,
    project_id: int,
    challenger: Challenger,
    *,
    learned: bool = True,
) -> TrainingReport:
    """Write a challenger down, and make it the champion where the gate says so.

    ``learned``: the labels count as learned even when it was refused. Nothing comes of it when
    another version serves by now.
    """
    artifact, decision = challenger.artifact, challenger.decision
    save_version(settings.data_dir, project_id, artifact)
    version = Version(
        project_id=project_id,
        number=artifact.version,
        created_at=time.time(),
        kept=decision.promote,
        reason=decision.reason,
        labels=challenger.state.labels,
        backbone=artifact.backbone,
        metrics=challenger.metrics,
    )
    state = challenger.state if learned or decision.promote else None
    done = _finish(
        store, leases, project_id, state, challenger.started, version, challenger.serving
    )
    return challenger.report() if done else TrainingReport(None, False, CHANGED_MEANWHILE)


def serving_number(champion: Artifact | None, serving: int | None) -> int:
    """The version that serves, where it is not said: the champion."""
    if serving is not None:
        return serving
    return champion.version if champion else 0


def judge(
    data: Sequence[LabelledImages],
    heads: Mapping[str, Head],
    champion: Artifact | None,
    backbone: str,
    margin: float,
    rival: Sequence[LabelledImages] | None = None,
) -> GateDecision:
    """The gate on the held-out labels of all controls together.

    ``rival``: the same labels with the embeddings that the champion reads, where it reads those of
    another backbone; without them it is not compared with then.
    """
    if rival is not None:
        pairs = [in_common(mine, theirs) for mine, theirs in zip(data, rival, strict=True)]
        data, rival = [mine for mine, _ in pairs], [theirs for _, theirs in pairs]
    challenger = [_graded(heads.get(part.control.name), part) for part in data]
    correct = np.concatenate([right for right, _ in challenger])
    if champion is None or (champion.backbone != backbone and rival is None):
        return decide(None, correct, margin=margin)
    before = [_graded(champion.heads.get(part.control.name), part) for part in rival or data]
    return decide(
        np.concatenate([right for right, _ in before]),
        correct,
        margin=margin,
        champion_losses=np.concatenate([loss for _, loss in before]),
        challenger_losses=np.concatenate([loss for _, loss in challenger]),
    )


def save_version(data_dir: Path, project_id: int, artifact: Artifact) -> None:
    """Write a version's folder; one left behind by a killed training is replaced."""
    folder = artifact_folder(data_dir, project_id, artifact.version)
    if folder.exists():
        shutil.rmtree(folder)
    save_artifact(folder, artifact)


def _gather(
    store: Store,
    settings: Settings,
    project_id: int,
    backbone: str,
    tuned: TunedNetwork | None,
) -> tuple[LearningState, list[LabelledImages], int]:
    """The labels as they are, with their embeddings, and the number of the next version."""
    identity = tuned.identity if tuned else backbone
    with store.read() as session:
        project = session.get_one(Project, project_id)
        data = [
            labelled_images(session, project, control, identity, settings.holdout_share)
            for control in controls_of(project)
        ]
        newest = newest_version(session, project_id)
        state = learning_state(session, project, backbone)
    return state, data, newest.number + 1 if newest else 1


def _as_seen_by(
    champion: Artifact,
    store: Store,
    settings: Settings,
    project_id: int,
    data: Sequence[LabelledImages],
) -> list[LabelledImages]:
    """The same labels, with the embeddings that the champion reads."""
    with store.read() as session:
        project = session.get_one(Project, project_id)
        return [
            labelled_images(
                session, project, part.control, champion.backbone, settings.holdout_share
            )
            for part in data
        ]


def _fit(part: LabelledImages, seed: int, trained: frozenset[str]) -> HeadFit:
    """A head on what is not held out; images that the network was trained on are not honest."""
    fitted = part.rows(~part.held_out)
    honest = ~np.isin(fitted.digests, sorted(trained)) if trained else None
    return fit_head(
        fitted.embeddings,
        fitted.targets,
        classes=part.control.classes,
        multiple=part.control.multiple,
        seed=seed,
        honest=honest,
    )


def _graded(
    head: Head | None, part: LabelledImages
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of each held-out image: whether a head is right, and its log loss (of a multiple control,
    summed over the classes). A class that the head does not know has probability 0."""
    targets = part.targets[part.held_out]
    probabilities = np.zeros((len(targets), len(part.control.classes)))
    if head is not None and len(targets):
        known = {name: i for i, name in enumerate(head.classes)}
        found = head.probabilities(part.embeddings[part.held_out])
        for position, name in enumerate(part.control.classes):
            if name in known:
                probabilities[:, position] = found[:, known[name]]
    safe = np.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if part.control.multiple:
        said = probabilities >= chosen_from(head, part.control.classes)
        right = (said == targets).all(axis=1)
        return right, -np.log(np.where(targets, safe, 1 - safe)).sum(axis=1)
    if head is None:
        right = np.zeros(len(targets), dtype=np.bool_)
    else:
        right = probabilities.argmax(axis=1) == targets
    return right, -np.log(safe[np.arange(len(targets)), targets])


def _finish(
    store: Store,
    leases: Leases,
    project_id: int,
    state: LearningState | None,
    started: float,
    version: Version | None,
    serving: int,
) -> bool:
    """Write all at once; false, and nothing is written, when another version serves by now.

    Without ``state`` only the version is written: no label counts as learned because of it.
    """
    with store.write() as session:
        leases.check(session, project_id)
        project = session.get_one(Project, project_id, with_for_update=True)
        if project.champion != serving:
            return False
        if version is not None:
            session.add(version)
        if state is None:
            return True
        project.attempted, project.attempted_setup = state.digest, state.setup
        project.due_since = None
        if project.train_requested_at is not None and project.train_requested_at <= started:
            project.train_requested_at = None
        if version is None:
            return True
        if version.kept:
            replace_champion(project, version.number)
        for label in session.scalars(select(Label).where(Label.project_id == project_id)):
            if label.status == GONE:
                session.delete(label)
            else:
                label.learned = list(label.choices) if label.status == AGREED else None
    return True


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

    return {name: version(name) for name in ("numpy", "scipy", "torch", "torchvision")}
