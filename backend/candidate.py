"""Labels and embeddings → heads → what the gate says of them. Nothing is written.

What comes of it is written down by :mod:`backend.training`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backend import clock
from backend.dataset import LabelledImages, LearningState, labelled_images, learning_state
from backend.id_ranges import ranges_of
from backend.judging import TRAINED_ON, Challenger, judge, looks_so_far
from backend.measuring import measure_all
from backend.orders import wanted_strategy
from backend.pool_priors import PoolPriors
from backend.projects import newest_version
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of
from backend.tables import Project
from backend.tuned_networks import MANIFEST_KEY, TunedNetwork
from model.artifact import Artifact
from model.gate import GateDecision
from model.head import HeadFit, fit_head
from model.pool_prior import PoolPrior


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
    when there is too little to learn from. The arguments are those of
    :func:`backend.training.train`."""
    started = clock.now()
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
        "seconds": round(clock.now() - started, 3),
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
