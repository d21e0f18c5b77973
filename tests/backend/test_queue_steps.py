"""The queue as Label Studio is sent it, by the trainer's own steps, killed and rolled back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.champion import Champions
from backend.engine import LocalEngine
from backend.groups import groups_of_tasks
from backend.labelstudio import LabelStudio
from backend.orders import places_of, wanted_name
from backend.payloads import PredictTask
from backend.predictor import Predictor
from backend.settings import Settings
from backend.store import MIGRATIONS, Store
from backend.tables import ImageGroup, Order, Project, Task, Version
from backend.versions import roll_back
from model.audit import in_audit
from tests.backend.loop_project import CLASSES, Loop, config
from tests.backend.small_label_studio import PatternEngine, SmallLabelStudio

PATTERNS = np.sign(np.random.default_rng(3).normal(size=(3, 16))) * 0.5
"""Of each class, the brightness of its fields."""


def _picture(task: int, seed: int = 0) -> Image.Image:
    """A picture of the class ``task % 3``, unlike all others of it."""
    random = np.random.default_rng([seed, task])
    fields = np.clip(PATTERNS[task % 3] + random.normal(0, 0.35, 16), -1, 1)
    grey = ((fields.reshape(4, 4) + 1) * 127.5).astype(np.uint8)
    return Image.fromarray(grey).resize((64, 64), Image.Resampling.NEAREST).convert("RGB")


def _ticked(result: list[dict[str, Any]]) -> list[str]:
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
            server.add_picture(task, _picture(task))
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
            tools.copies,
            cast(LocalEngine, self.engine),
        )
        asked = [PredictTask(id=task, data={"image": uri}) for task, uri in tasks.items()]
        name, found = predictor.predict(1, asked, None)
        return name, {t: (p.score, _ticked(p.result)) for t, p in zip(tasks, found, strict=True)}


@pytest.fixture
def studio(
    settings: Settings,
    store: Store,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> Iterator[Studio]:
    changes = {
        "label_studio_url": small_label_studio.url,
        "quiet_seconds": 0.0,
        "audit_share": 0.2,
        "strategy": "margin",
        "queue_head": 8,
        "gate_margin": 1.0,
        "transfer": "features",
    }
    made = Studio(small_label_studio, settings.model_copy(update=changes), store, small_client)
    yield made
    made.loop.tools.fetcher.close()


def _check(studio: Studio, project: Project) -> None:
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


def test_the_queue_opens_at_once_and_is_made_anew_when_the_images_are_known(
    studio: Studio,
) -> None:
    herding = studio.settings.model_copy(update={"strategy": "typiclust"})
    studio.loop.tools.fetcher.close()
    studio.loop = Loop(herding, studio.store, studio.client, studio.engine)
    project = studio.settle()
    assert (project.champion, project.served) == (0, "v0.1")
    first, second = studio.orders()
    assert (first.name, first.known, first.picks, first.places) == ("v0", 0, [], b"")
    assert (second.name, second.known, second.reason) == (
        "v0.1",
        40,
        "40 tasks are known, 0 before",
    )
    assert len(studio.held("v0")) == len(studio.held("v0.1")) == 40
    _check(studio, project)
    # The picks come first but for the audit images between them, and see every class.
    queue = [task for task in studio.queue() if task not in studio.audit()]
    assert queue[:10] == second.picks
    assert {task % 3 for task in second.picks[:3]} == {0, 1, 2}
    assert studio.audit()
    # Nothing is left to do.
    assert studio.settle().served == "v0.1"
    assert len(studio.orders()) == 2


def test_labels_that_teach_nothing_yet_use_the_picks_up(studio: Studio) -> None:
    studio.settle()
    for _ in range(25):
        [task] = studio.queue()[:1]
        studio.server.annotate(task, label=["cat"])
        project = studio.settle()
        if project.served != "v0.1":
            break
    assert (project.champion, project.served) == (0, "v0.2")
    *_, last = studio.orders()
    assert last.reason == "its picks are used up"
    _check(studio, project)


def test_a_new_version_and_its_order(studio: Studio) -> None:
    studio.settle()
    done = studio.label_next(12)
    project = studio.settle()
    assert (project.champion, project.served) == (1, "v1")
    _check(studio, project)
    order = studio.orders()[-1]
    assert (order.name, order.strategy, order.reason) == ("v1", "margin", "a new version")
    assert not set(order.picks) & (set(done) | studio.audit())
    # Of the twelve that were served, about one in five was an audit image.
    assert 1 <= len(set(done) & studio.audit()) <= 4


def test_predict_answers_what_was_sent(studio: Studio) -> None:
    studio.settle()
    uris = {task: f"/data/{task}" for task in studio.server.tasks}
    for served in ("v0.1", "v1"):
        name, said = studio.predict(uris)
        assert name == studio.server.project["model_version"] == served
        held = studio.held(served)
        waiting = studio.queue()
        assert {t: said[t] for t in waiting} == {
            t: (held[t][0]["score"], _ticked(held[t][0]["result"])) for t in waiting
        }
        studio.label_next(12)
        studio.settle()
    # Those that are labelled are in the audit set or ticked, too.
    labelled = [t for t, task in studio.server.tasks.items() if task["annotations"]]
    name, said = studio.predict({task: uris[task] for task in labelled})
    assert {task for task in labelled if not said[task][1]} == studio.audit() & set(labelled)


def test_predict_ticks_no_image_that_will_be_in_the_audit_set(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    for task in range(50, 80):
        studio.server.add_picture(task, _picture(task))
    _, said = studio.predict({task: f"/data/{task}" for task in range(50, 80)})
    studio.settle()
    # As long as an image resembles no other, what is said before it is looked at is right.
    leader = studio.leaders()
    alone = [t for t in range(50, 80) if list(leader.values()).count(leader[t]) == 1]
    held = {task: found[0] for task, found in studio.held("v1").items()}
    assert {t: said[t] for t in alone} == {
        t: (held[t]["score"], _ticked(held[t]["result"])) for t in alone
    }
    unticked = {task for task in alone if not said[task][1]}
    assert unticked == studio.audit() & set(alone) != set()


def test_another_strategy_makes_the_order_anew(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    with studio.store.write() as session:
        session.get_one(Project, 1).choosing = False
    project = studio.settle()
    assert project.served == "v1.1"
    assert studio.orders()[-1].strategy == "random"
    _check(studio, project)
    old, new = ({t: studio.held(n)[t][0] for t in studio.queue()} for n in ("v1", "v1.1"))
    assert [old[t]["result"] for t in old] == [new[t]["result"] for t in old]
    assert [old[t]["score"] for t in old] != [new[t]["score"] for t in old]
    # The places of the order before it are kept no longer, those of other versions are.
    assert {o.name: bool(o.places) for o in studio.orders()} == {
        "v0": False,
        "v0.1": True,
        "v1": False,
        "v1.1": True,
    }


def test_a_version_that_is_rolled_back_to_goes_on_with_its_last_order(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    with studio.store.write() as session:
        session.get_one(Project, 1).choosing = False
    studio.settle()
    sent = studio.held("v1.1")
    with studio.store.write() as session:
        # So that the switch stays where it is when v2 comes.
        session.get_one(Project, 1).payoff = {"checked": 2}
    studio.label_next(10)
    assert studio.settle().served == "v2"
    studio.server.add_picture(41, _picture(41))
    studio.settle()
    assert 41 in studio.held("v2")

    roll_back(studio.store, _of_the_engine(studio.settings), 1)
    project = studio.settle()
    assert (project.champion, project.served) == (1, "v1.1")
    again = studio.held("v1.1")
    assert again.keys() - sent.keys() == {41}
    assert {task: again[task] for task in sent} == sent
    _check(studio, project)
    assert [order.name for order in studio.orders()] == ["v0", "v0.1", "v1", "v1.1", "v2"]
    # /predict goes on as before, too.
    name, said = studio.predict({task: f"/data/{task}" for task in studio.queue()})
    assert name == "v1.1"
    assert {t: score for t, (score, _) in said.items()} == {
        t: again[t][0]["score"] for t in studio.queue()
    }


def _of_the_engine(settings: Settings) -> Settings:
    """Settings whose backbone's name is that of the tests' engine."""
    return settings.model_copy(update={"backbone": "brightness", "input_size": "brightness"})


class Killed(BaseException):
    """The process is no more."""


class Mortal:
    """Kills now and then, before or after what it is asked about."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.deaths = 0
        self.lives = True

    def perhaps(self) -> None:
        if self.lives and self._random.random() < 0.06:
            self.deaths += 1
            raise Killed


def _mortal_store(address: str, fate: Mortal) -> Store:
    class MortalStore(Store):
        @contextmanager
        def write(self, *, alone: bool = True) -> Iterator[Session]:
            fate.perhaps()
            with super().write(alone=alone) as session:
                yield session
            fate.perhaps()

    return MortalStore(address)


def _mortal_client(url: str, fate: Mortal) -> LabelStudio:
    class MortalClient(LabelStudio):
        def import_predictions(self, *arguments: Any) -> int:
            fate.perhaps()
            created = super().import_predictions(*arguments)
            fate.perhaps()
            return created

        def delete_predictions(self, *arguments: Any) -> int:
            fate.perhaps()
            count = super().delete_predictions(*arguments)
            fate.perhaps()
            return count

        def update_project(self, *arguments: Any, **fields: Any) -> Any:
            fate.perhaps()
            answer = super().update_project(*arguments, **fields)
            fate.perhaps()
            return answer

    return MortalClient(url, "0" * 40)


def _until_it_lives(studio: Studio, fate: Mortal) -> None:
    """Start the trainer again and again, until it has settled."""
    for _ in range(400):
        store = _mortal_store(studio.settings.database_address, fate)
        client = _mortal_client(studio.server.url, fate)
        loop = None
        try:
            loop = Loop(studio.settings, store, client, studio.engine)
            loop.settle()
            return
        except Killed:
            pass
        finally:
            if loop is not None:
                loop.tools.fetcher.close()
            client.close()
            store.close()
    raise AssertionError("it never settled")


@pytest.mark.parametrize("seed", range(2))
def test_a_trainer_killed_at_any_instant_goes_on(studio: Studio, seed: int) -> None:
    fate = Mortal(seed)
    for round_ in range(3):
        _until_it_lives(studio, fate)
        if round_ == 1:
            studio.server.add_picture(41, _picture(41))
        studio.label_next(12 if round_ == 0 else 10)
    _until_it_lives(studio, fate)
    assert fate.deaths > 3
    fate.lives = False
    project = studio.settle()
    _check(studio, project)
    assert project.champion >= 2
    counts = Counter((p["task"], p["model_version"]) for p in studio.server.predictions)
    assert set(counts.values()) == {1}
    for version in range(project.champion + 1):
        numbers = [order.number for order in studio.orders() if order.version == version]
        assert numbers == list(range(len(numbers)))
    with studio.store.read() as session:
        digests = session.scalars(select(ImageGroup.digest)).all()
        assert len(set(digests)) == len(digests) == 41
        assert session.scalars(select(Version.number).order_by(Version.number)).all() == list(
            range(1, project.champion + 1)
        )
        assert session.get(Task, (1, 41)) is not None


def _as_before_there_were_orders(studio: Studio) -> None:
    """Put the database back into the form of a release without orders."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with studio.store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")


def test_what_a_release_without_orders_has_sent_is_ordered_anew(studio: Studio) -> None:
    studio.settle()
    studio.label_next(12)
    studio.settle()
    before = studio.held("v1")
    _as_before_there_were_orders(studio)
    studio.store.migrate()
    assert [(order.name, order.known, order.strategy) for order in studio.orders()] == [
        ("v0", 0, ""),
        ("v1", 0, ""),
    ]
    with studio.store.read() as session:
        assert session.get_one(Project, 1).choosing
        pushed = session.scalars(select(Task.pushed_order).where(Task.pushed_version == 1)).all()
    assert set(pushed) == {0}
    # Label Studio goes by the old order until the new one is there.
    project = studio.settle()
    assert (project.champion, project.served) == (1, "v1.1")
    assert studio.held("v1") == before
    _check(studio, project)
