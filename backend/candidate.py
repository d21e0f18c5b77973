"""Labels and embeddings → heads → what the gate says of them. Nothing is written.

What comes of it is written down by :mod:`backend.training`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import clock
from backend.automatic_data import AutomaticImages, automatic_images
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
    found = _gather(store, settings, project_id, backbone, identity, backbones)
    learnable = [part for part in found.data[identity] if part.enough]
    if not learnable:
        return found.state
    trained = tuned.trained if tuned else frozenset[str]()
    pools = _pools(store, project_id, identity, learnable, priors or PoolPriors())
    fits = {
        name: _fit(part, settings.seed, trained, pools.get(name), found.automatic.get(name))
        for name, part in ((part.control.name, part) for part in learnable)
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
    those of the next version and of the project, ``strategy`` is what picks for it; ``automatic``
    what each control learns beside people's labels."""

    state: LearningState
    data: dict[str, list[LabelledImages]]
    automatic: dict[str, AutomaticImages]
    number: int
    title: str
    strategy: str
    looks: int


def _gather(
    store: Store,
    settings: Settings,
    project_id: int,
    backbone: str,
    identity: str,
    backbones: set[str],
) -> _Gathered:
    share, weight = settings.audit_share, settings.auto_label_weight
    with store.read() as session:
        project = session.get_one(Project, project_id)
        newest = newest_version(session, project_id)
        data = {
            network: [
                labelled_images(session, project, control, network, share)
                for control in controls_of(project)
            ]
            for network in backbones
        }
        automatic = {
            part.control.name: automatic_images(session, project, part, identity, weight, share)
            for part in data[identity]
        }
        return _Gathered(
            learning_state(session, project, backbone, weight),
            data,
            {name: part for name, part in automatic.items() if part is not None},
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
    part: LabelledImages,
    seed: int,
    trained: frozenset[str],
    pool: PoolPrior | None,
    automatic: AutomaticImages | None,
) -> HeadFit:
    """A head on what is not held out; images that the network was trained on are not honest, and
    neither are automatic labels, of which the result says nothing either."""
    fitted = part.rows(~part.held_out)
    honest = ~np.isin(fitted.digests, sorted(trained)) if trained else None
    embeddings, targets, weights, n = fitted.embeddings, fitted.targets, None, len(fitted.targets)
    if automatic is not None:
        more = len(automatic.targets)
        embeddings = np.concatenate([embeddings, automatic.embeddings])
        targets = np.concatenate([targets, automatic.targets])
        weights = np.append(np.ones(n), np.full(more, automatic.weight))
        honest = np.append(np.ones(n, dtype=np.bool_) if honest is None else honest, [False] * more)
    fit = fit_head(
        embeddings,
        targets,
        classes=part.control.classes,
        multiple=part.control.multiple,
        seed=seed,
        honest=honest,
        weights=weights,
        pool=pool,
    )
    if automatic is None:
        return fit
    seen = None if fit.out_of_fold is None else fit.out_of_fold[:n]
    metrics = {**fit.metrics, "n": float(n), "automatic": float(len(automatic.targets))}
    return replace(fit, out_of_fold=seen, metrics=metrics)


def _manifest(
    found: _Gathered,
    settings: Settings,
    metrics: Mapping[str, Any],
    learned: Sequence[LabelledImages],
) -> dict[str, Any]:
    return {
        "labels": found.state.labels,
        "labels_digest": found.state.digest,
        TRAINED_ON: {part.control.name: ranges_of(_trained_on(found, part)) for part in learned},
        "seed": settings.seed,
        "strategy": found.strategy,
        "metrics": dict(metrics),
        "libraries": _library_versions(),
    }


def _trained_on(found: _Gathered, part: LabelledImages) -> NDArray[np.int64]:
    """The tasks whose labels a control learned, automatic ones too."""
    ids, automatic = part.task_ids[~part.held_out], found.automatic.get(part.control.name)
    return ids if automatic is None else np.union1d(ids, automatic.task_ids)


def _library_versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("numpy", "scipy", "scikit-learn", "torch", "torchvision")
    return {name: version(name) for name in names}
