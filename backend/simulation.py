"""Labelling replayed on a data set, by every strategy and seed of a plan."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import model
from backend.compare_backbones import load_network
from backend.errors import DataError
from backend.labelled_data import ImageSet, LabelledData, subset
from backend.results_file import ResultsFile, key_of
from backend.settings import Settings
from backend.simulation_finetune import FineTuner
from backend.simulation_images import EmbeddedImages
from backend.simulation_plan import Plan
from model.backbones import Backbone
from model.embed_images import Tell
from model.scenario import draw_scenario
from model.simulate import Features, draw_prior, replay


@dataclass(frozen=True, eq=False)
class Project:
    """What is labelled with one seed: the images, and (n,) what people answer of each."""

    images: ImageSet
    answers: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Simulation:
    """A plan on a data set, with every image that it needs embedded.

    ``projects``  by seed
    ``left_out``  (which, why) of images that cannot be read
    """

    data: LabelledData
    plan: Plan
    backbone: Backbone
    settings: Settings
    embedded: EmbeddedImages
    test: ImageSet
    projects: dict[int, Project]
    left_out: list[tuple[str, str]]


def prepare(
    data: LabelledData, plan: Plan, backbone: Backbone, settings: Settings, tell: Tell
) -> Simulation:
    """Draw the projects and the test images of a plan, and embed what is not embedded yet.

    :class:`DataError` or :class:`SetupError` when too few images are there or can be read.
    """
    drawn = {seed: _draw(data, plan, seed) for seed in plan.seeds}
    plan = plan.fitted(min(len(project.images) for project in drawn.values()))
    wanted_test = subset(data.test, plan.test, np.random.default_rng([plan.seeds[0], 1]))
    embedded = EmbeddedImages(data, backbone, settings)
    for seed, project in drawn.items():
        embedded.embed(project.images, f"embedding images, seed {seed}", tell)
    test = embedded.embed(wanted_test, "embedding test images", tell)
    if not len(test):
        raise DataError(f"{data.name}: none of the test images can be read.")
    projects = {seed: _readable(project, embedded) for seed, project in drawn.items()}
    plan = plan.fitted(min(len(project.images) for project in projects.values()))
    parts = [*(project.images for project in drawn.values()), wanted_test]
    left_out = dict.fromkeys(pair for part in parts for pair in embedded.left_out(part))
    return Simulation(data, plan, backbone, settings, embedded, test, projects, [*left_out])


def simulate(
    simulation: Simulation,
    results: ResultsFile,
    *,
    on_run: Callable[[str, int], None],
    tell: Tell,
) -> Iterator[dict[str, Any]]:
    """One row for each seed and strategy, seed by seed; those in ``results`` are not redone.

    A row has ``key``, ``strategy``, ``seed``, ``curve`` (``labels`` and ``accuracy`` at each
    budget), ``took`` seconds, and ``earlier``, whether it was done before.
    """
    done, plan = results.rows(), simulation.plan
    test = simulation.embedded.vectors(simulation.test)
    for seed in plan.seeds:
        features: Features | None = None
        for strategy in plan.strategies:
            key = _key(simulation, strategy, seed)
            if key in done:
                yield done[key] | {"earlier": True}
                continue
            on_run(strategy, seed)
            if features is None:
                pool = simulation.embedded.vectors(simulation.projects[seed].images)
                features = Features(pool, test, draw_prior(pool, seed))
            unfinished = results.path.with_name(f"{results.path.stem}.{key}.unfinished")
            row = _run(simulation, strategy, seed, features, unfinished, tell)
            results.add({"key": key} | row)
            shutil.rmtree(unfinished, ignore_errors=True)
            yield {"key": key} | row | {"earlier": False}


def _run(
    simulation: Simulation,
    strategy: str,
    seed: int,
    features: Features,
    unfinished: Path,
    tell: Tell,
) -> dict[str, Any]:
    plan, project, began = simulation.plan, simulation.projects[seed], time.monotonic()
    points = replay(
        features.pool,
        project.answers,
        features.test,
        simulation.test.targets,
        classes=simulation.data.classes,
        strategy=strategy,
        budgets=plan.budgets,
        seed=seed,
        batch=plan.batch,
        start=plan.start,
        prior=features.prior,
        finetune=_finetuner(simulation, project, seed, unfinished, tell),
        finetune_at=plan.finetune_at,
        on_progress=lambda labels: tell("labels", labels, plan.budgets[-1]),
    )
    return {
        "strategy": strategy,
        "seed": seed,
        "curve": [asdict(point) for point in points],
        "took": round(time.monotonic() - began, 3),
    }


def _finetuner(
    simulation: Simulation, project: Project, seed: int, unfinished: Path, tell: Tell
) -> FineTuner:
    backbone = simulation.backbone
    return FineTuner(
        partial(load_network, backbone.name, backbone.input_size, seed, simulation.settings, tell),
        project.images,
        simulation.test,
        simulation.data.classes,
        replace(simulation.plan.tuning, seed=seed),
        unfinished,
        tell,
    )


def _draw(data: LabelledData, plan: Plan, seed: int) -> Project:
    scenario = draw_scenario(
        data.train.targets,
        class_count=len(data.classes),
        seed=seed,
        most=plan.pool,
        imbalance=plan.imbalance,
        label_noise=plan.label_noise,
    )
    return Project(data.train.at(scenario.pool), scenario.answers)


def _readable(project: Project, embedded: EmbeddedImages) -> Project:
    good = np.flatnonzero(embedded.readable(project.images))
    return Project(project.images.at(good), project.answers[good])


def _key(simulation: Simulation, strategy: str, seed: int) -> str:
    """What the numbers of a row depend on, the program itself among it."""
    plan, project = simulation.plan, simulation.projects[seed]
    tuned = {"tuning": asdict(plan.tuning)} if plan.finetune_at else {}
    return key_of(
        {
            "data": simulation.data.digest,
            "pool": [project.images.rows.tolist(), project.answers.tolist()],
            "test": simulation.test.rows.tolist(),
            "network": simulation.backbone.identity,
            "strategy": strategy,
            "seed": seed,
            "budgets": plan.budgets,
            "batch": plan.batch,
            "start": plan.start,
            "finetune_at": plan.finetune_at,
            "code": code_digest(),
        }
        | tuned
    )


def code_digest() -> str:
    """16 hex digits that differ when the code of :mod:`model` does: results of other code are not
    those of this one."""
    found = hashlib.sha256()
    root = Path(model.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]
