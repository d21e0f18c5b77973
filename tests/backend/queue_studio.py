"""A small Label Studio with forty pictures, and the trainer that makes its queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from backend.champion import Champions
from backend.engine import LocalEngine
from backend.groups import groups_of_tasks
from backend.labelstudio import LabelStudio
from backend.orders import places_of, wanted_name
from backend.payloads import PredictTask
from backend.predictor import Predictor
from backend.settings import Settings
from backend.store import Store
from backend.tables import Order, Project
from model.audit import in_audit
from tests.backend.loop_project import CLASSES, Loop, config
from tests.backend.small_label_studio import PatternEngine, SmallLabelStudio

PATTERNS = np.sign(np.random.default_rng(3).normal(size=(3, 16))) * 0.5
"""Of each class, the brightness of its fields."""


def picture(task: int, seed: int = 0) -> Image.Image:
    """A picture of the class ``task % 3``, unlike all others of it."""
    random = np.random.default_rng([seed, task])
    fields = np.clip(PATTERNS[task % 3] + random.normal(0, 0.35, 16), -1, 1)
    grey = ((fields.reshape(4, 4) + 1) * 127.5).astype(np.uint8)
    return Image.fromarray(grey).resize((64, 64), Image.Resampling.NEAREST).convert("RGB")


def ticked(result: list[dict[str, Any]]) -> list[str]:
    """The choices of a prediction's result."""
    return [choice for item in result for choice in item["value"]["choices"]]


class Studio:
    """A small Label Studio with 40 tasks, and a trainer that serves it."""

    def __init__(
        self, server: SmallLabelStudio, settings: Settings, store: Store, client: LabelStudio
    ) -> None:
        self.server, self.settings, self.store, self.client = server, settings, store, client
        self.engine = PatternEngine()
        server.project["label_config"] = config(*CLASSES)
        for task in range(1, 41):
            server.add_picture(task, picture(task))
        self.loop = Loop(settings, store, client, self.engine)

    def settle(self) -> Project:
        return self.loop.settle()

    def label(self, *tasks: int) -> None:
        for task in tasks:
            self.server.annotate(task, label=[CLASSES[task % 3]])

    def label_next(self, count: int) -> list[int]:
        """Label what Label Studio would give; the numbers of those tasks."""
        done = self.queue()[:count]
        self.label(*done)
        return done

    def queue(self) -> list[int]:
        """The tasks without an annotation in the order in which Label Studio serves them."""
        held = self.server.served()
        waiting = [t for t, task in self.server.tasks.items() if not task["annotations"]]
        return sorted((t for t in waiting if t in held), key=lambda t: (held[t]["score"], t))

    def held(self, name: str) -> dict[int, list[dict[str, Any]]]:
        """Task → its predictions of an order."""
        found: dict[int, list[dict[str, Any]]] = {}
        for prediction in self.server.predictions:
            if prediction["model_version"] == name:
                found.setdefault(prediction["task"], []).append(prediction)
        return found

    def orders(self) -> list[Order]:
        with self.store.read() as session:
            return list(session.scalars(select(Order).order_by(Order.version, Order.number)))

    def leaders(self) -> dict[int, str]:
        """Task → the leader of its image's group."""
        with self.store.read() as session:
            found = groups_of_tasks(session, 1, sorted(self.server.tasks))
        return {task: by_key["image"] for task, by_key in found.items()}

    def audit(self) -> set[int]:
        """The tasks in the audit set."""
        share = self.settings.audit_share
        return {task for task, leader in self.leaders().items() if in_audit(leader, share)}

    def predict(self, tasks: Mapping[int, str]) -> tuple[str, dict[int, tuple[float, list[str]]]]:
        """What /predict answers: the name, and of each task the score and what is ticked."""
        tools = self.loop.tools
        predictor = Predictor(
            self.settings,
            self.store,
            Champions(self.store, self.settings.data_dir),
            tools.fetcher,
            cast(LocalEngine, self.engine),
        )
        asked = [PredictTask(id=task, data={"image": uri}) for task, uri in tasks.items()]
        name, found = predictor.predict(1, asked, None)
        return name, {t: (p.score, ticked(p.result)) for t, p in zip(tasks, found, strict=True)}


def of_the_queue(settings: Settings, server: SmallLabelStudio, **changes: Any) -> Settings:
    """Settings of a trainer that a small Label Studio is served by, at once and by margins."""
    usual = {
        "label_studio_url": server.url,
        "quiet_seconds": 0.0,
        "audit_share": 0.2,
        "strategy": "margin",
        "queue_head": 8,
        "gate_margin": 1.0,
        "transfer": "features",
    }
    return settings.model_copy(update=usual | changes)


@pytest.fixture
def studio(
    settings: Settings,
    store: Store,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> Iterator[Studio]:
    changed = of_the_queue(settings, small_label_studio)
    made = Studio(small_label_studio, changed, store, small_client)
    yield made
    made.loop.tools.fetcher.close()


def check(studio: Studio, project: Project) -> None:
    """Label Studio goes by the newest order, and holds it whole, once, and as it was made."""
    with studio.store.read() as session:
        order = session.scalars(
            select(Order)
            .where(Order.version == project.champion)
            .order_by(Order.number.desc())
            .limit(1)
        ).one()
        assert project.served == wanted_name(session, project) == order.name
        assert not project.pushing
    assert studio.server.project["model_version"] == order.name
    held, places = studio.held(order.name), places_of(order)
    waiting = [t for t, task in studio.server.tasks.items() if not task["annotations"]]
    assert {task: len(held[task]) for task in waiting} == dict.fromkeys(waiting, 1)
    assert all(held[t][0]["score"] == places[t] for t in waiting if t in places)
    ticked = {t for t in waiting if held[t][0]["result"]}
    assert ticked == (set(waiting) - studio.audit() if project.champion else set())


def of_the_engine(settings: Settings) -> Settings:
    """Settings whose backbone's name is that of the tests' engine."""
    return settings.model_copy(update={"backbone": "brightness", "input_size": "brightness"})
