"""One training: labels and embeddings → heads → gate → a version on disk → the champion.

Nothing that serves is touched before the last transaction, which writes the version, the champion
and what was learned together. Killed before it, a training leaves at most a folder that the next
one clears away: see :mod:`backend.version_files`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import select

from backend.champion import replace_champion
from backend.dataset import LabelledImages, LearningState, labelled_images, learning_state
from backend.experiment_log import log_version
from backend.hints import close_request
from backend.id_ranges import ranges_of
from backend.judging import TRAINED_ON, Challenger, judge, looks_so_far
from backend.lease import Leases
from backend.measuring import measure_all
from backend.orders import wanted_strategy
from backend.pool_priors import PoolPriors
from backend.projects import newest_version
from backend.settings import Settings
from backend.store import Store
from backend.sync import AGREED, GONE, controls_of
from backend.tables import Label, Project, Version
from backend.tuned_networks import MANIFEST_KEY, TunedNetwork
from backend.version_files import laid_down
from model.artifact import Artifact
from model.gate import GateDecision
from model.head import HeadFit, fit_head
from model.pool_prior import PoolPrior

log = logging.getLogger(__name__)

CHANGED_MEANWHILE = "another version was promoted by hand meanwhile, so it is done again"
TOO_LITTLE = "labels of at least two different classes are needed"


@dataclass(frozen=True)
class TrainingReport:
    """What came out of a training. ``version`` is None when there was too little to learn from."""

    version: int | None
    kept: bool
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What came of it in a word or two, out of four."""
        if self.version is not None:
            return "kept" if self.kept else "refused"
        return "too few labels" if self.reason == TOO_LITTLE else "overtaken"


@dataclass(frozen=True)
class Candidate:
    """Heads fitted on all labels of a moment, and what the gate says of them.

    ``title`` is that of the project; ``serving`` the version that served when they met the
    champion.
    """

    artifact: Artifact
    decision: GateDecision
    metrics: dict[str, Any]
    state: LearningState
    title: str
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
    priors: PoolPriors | None = None,
) -> TrainingReport:
    """Fit a challenger on all labels and let the gate decide whether it becomes the champion.

    ``backbone`` is the identity of the original one; with ``tuned`` the heads read the embeddings
    of that network, which came from it. ``serving`` is the number of the version that served when
    ``champion`` was read, where that is not ``champion`` itself. ``priors`` of earlier trainings
    save time. Nothing comes of the training when another one serves at its end.
    """
    started, serving = time.time(), serving_number(champion, serving)
    found = challenge(store, settings, project_id, backbone, champion, serving, tuned, priors)
    if not isinstance(found, Candidate):
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
    priors: PoolPriors | None = None,
) -> Candidate | LearningState:
    """Fit heads and let them meet the champion; nothing is written. Only the state of the labels,
    when there is too little to learn from. The arguments are those of :func:`train`."""
    started = time.time()
    identity = tuned.identity if tuned else backbone
    backbones = {identity, champion.backbone if champion else identity}
    found = _gather(store, settings, project_id, backbone, backbones)
    learnable = [part for part in found.data[identity] if part.enough]
    if not learnable:
        return found.state
    trained = tuned.trained if tuned else frozenset[str]()
    pools = _pools(store, project_id, identity, learnable, priors or PoolPriors())
    fits = {
        part.control.name: _fit(part, settings.seed, trained, pools.get(part.control.name))
        for part in learnable
    }
    challenger = Challenger(
        identity,
        {name: fit.head for name, fit in fits.items()},
        {name: fit.out_of_fold for name, fit in fits.items()},
    )
    decision = judge(found.data, challenger, champion, settings.gate_margin, found.looks)
    metrics = {
        "controls": {name: fit.metrics for name, fit in fits.items()},
        **measure_all(learnable, fits, settings.seed),
        "gate": asdict(decision),
        "seconds": round(time.time() - started, 3),
    }
    manifest = _manifest(found, settings, metrics, learnable)
    if tuned is not None:
        manifest[MANIFEST_KEY] = tuned.manifest()
    return Candidate(
        Artifact(found.number, identity, dict(challenger.heads), manifest),
        decision,
        metrics,
        found.state,
        found.title,
        started,
        serving_number(champion, serving),
    )


def settle(
    store: Store,
    leases: Leases,
    settings: Settings,
    project_id: int,
    candidate: Candidate,
    *,
    learned: bool = True,
) -> TrainingReport:
    """Write a candidate down, and make it the champion where the gate says so.

    ``learned``: the labels count as learned even when it was refused. Nothing comes of it when
    another version serves by now.
    """
    artifact, decision = candidate.artifact, candidate.decision
    version = Version(
        project_id=project_id,
        number=artifact.version,
        created_at=time.time(),
        kept=decision.promote,
        reason=decision.reason,
        labels=candidate.state.labels,
        backbone=artifact.backbone,
        metrics=candidate.metrics,
    )
    state = candidate.state if learned or decision.promote else None
    with laid_down(settings.data_dir, project_id, artifact) as put_in_place:
        started, serving = candidate.started, candidate.serving
        done = _finish(store, leases, project_id, state, started, version, serving, put_in_place)
    if not done:
        return TrainingReport(None, False, CHANGED_MEANWHILE)
    log_version(settings, project_id, candidate.title, artifact, candidate.metrics, decision)
    return candidate.report()


def serving_number(champion: Artifact | None, serving: int | None) -> int:
    """The version that serves, where it is not said: the champion."""
    if serving is not None:
        return serving
    return champion.version if champion else 0


@dataclass(frozen=True, eq=False)
class _Gathered:
    """The labels as they are, with their embeddings by each backbone; ``number`` and ``title`` are
    those of the next version and of the project, ``strategy`` is what picks for it."""

    state: LearningState
    data: dict[str, list[LabelledImages]]
    number: int
    title: str
    strategy: str
    looks: int


def _gather(
    store: Store, settings: Settings, project_id: int, backbone: str, backbones: set[str]
) -> _Gathered:
    with store.read() as session:
        project = session.get_one(Project, project_id)
        newest = newest_version(session, project_id)
        return _Gathered(
            learning_state(session, project, backbone),
            {
                identity: [
                    labelled_images(session, project, control, identity, settings.audit_share)
                    for control in controls_of(project)
                ]
                for identity in backbones
            },
            newest.number + 1 if newest else 1,
            project.title,
            wanted_strategy(project, settings.strategy),
            looks_so_far(session, project_id),
        )


def _pools(
    store: Store,
    project_id: int,
    backbone: str,
    learnable: Sequence[LabelledImages],
    priors: PoolPriors,
) -> dict[str, PoolPrior | None]:
    """Control → what the project's images say to it."""
    with store.read() as session:
        return {
            part.control.name: priors.get(session, project_id, part.control.data_key, backbone)
            for part in learnable
            if not part.control.multiple
        }


def _fit(
    part: LabelledImages, seed: int, trained: frozenset[str], pool: PoolPrior | None
) -> HeadFit:
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
        pool=pool,
    )


def _finish(
    store: Store,
    leases: Leases,
    project_id: int,
    state: LearningState | None,
    started: float,
    version: Version | None,
    serving: int,
    put_in_place: Callable[[], None] = lambda: None,
) -> bool:
    """Write all at once; false, and nothing is written, when another version serves by now.

    Without ``state`` only the version is written: no label counts as learned because of it.
    ``put_in_place`` is called before the version is known to anybody.
    """
    with store.write() as session:
        leases.check(session, project_id)
        project = session.get_one(Project, project_id, with_for_update=True)
        if project.champion != serving:
            return False
        if version is not None:
            if session.get(Version, (project_id, version.number)) is not None:
                return False
            put_in_place()
            session.add(version)
        if state is None:
            return True
        project.attempted, project.attempted_setup = state.digest, state.setup
        project.due_since = None
        close_request(session, project, started)
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
    found: _Gathered,
    settings: Settings,
    metrics: Mapping[str, Any],
    learned: Sequence[LabelledImages],
) -> dict[str, Any]:
    return {
        "labels": found.state.labels,
        "labels_digest": found.state.digest,
        TRAINED_ON: {
            part.control.name: ranges_of(part.task_ids[~part.held_out]) for part in learned
        },
        "seed": settings.seed,
        "strategy": found.strategy,
        "metrics": dict(metrics),
        "libraries": _library_versions(),
    }


def _library_versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("numpy", "scipy", "scikit-learn", "torch", "torchvision")
    return {name: version(name) for name in names}
