"""The blind share of the queue, by the trainer's own steps on a small Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from backend.labelstudio import LabelStudio
from backend.offers import KEPT_SECONDS, read_parts
from backend.predictions import Offer
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, SentPart, Serving
from backend.versions import roll_back
from backend.withholding import AUDIT, BLIND, TICKED
from model.audit import in_audit, in_blind
from tests.backend.mortal_trainer import Mortal, until_it_lives
from tests.backend.queue_studio import Studio, of_the_engine, of_the_queue, picture, ticked
from tests.backend.small_label_studio import SmallLabelStudio

SHARE = 0.3


class BlindStudio(Studio):
    """As its base, and the blind share can be set anew, which takes another trainer."""

    def share(self, blind_share: float) -> None:
        """Another trainer, with that share."""
        self.loop.tools.fetcher.close()
        self.settings = self.settings.model_copy(update={"blind_share": blind_share})
        self.loop = type(self.loop)(self.settings, self.store, self.client, self.engine)

    def learn(self) -> Project:
        """v1, of twelve labels."""
        self.settle()
        self.label_next(12)
        return self.settle()

    def state(self, task: int, leaders: dict[int, str]) -> str:
        """How the task should be shown."""
        if in_audit(leaders[task], self.settings.audit_share):
            return AUDIT
        return BLIND if in_blind(leaders[task], 1, self.settings.blind_share) else TICKED

    def states(self) -> dict[int, str]:
        """Waiting task → how it should be shown."""
        leaders = self.leaders()
        return {task: self.state(task, leaders) for task in self.queue()}

    def of(self, state: str) -> set[int]:
        return {task for task, theirs in self.states().items() if theirs == state}

    def offers(self, version: int, number: int = 0) -> dict[int, Offer]:
        """Task → what was written down last of an order."""
        found: dict[int, Offer] = {}
        with self.store.read() as session:
            for part in read_parts(session, 1, version, number):
                if part.row.sent_at is not None:
                    for task in part.task_ids.tolist():
                        offers = part.get(task)
                        assert offers is not None
                        found[task] = offers["label"]
        return found

    def check(self, name: str) -> None:
        """Label Studio holds one prediction of each, ticked where it should be, and that was
        written down."""
        held, states = self.held(name), self.states()
        version, _, number = name[1:].partition(".")
        offers = self.offers(int(version), int(number or 0))
        for task, state in states.items():
            (prediction,) = held[task]
            assert bool(prediction["result"]) == (state == TICKED)
            assert offers[task].state == state
            assert len(offers[task].choices) == 1
            if state == TICKED:
                assert ticked(prediction["result"]) == list(offers[task].choices)


@pytest.fixture
def studio(
    settings: Settings,
    store: Store,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> Iterator[BlindStudio]:
    changed = of_the_queue(settings, small_label_studio)
    made = BlindStudio(small_label_studio, changed, store, small_client)
    yield made
    made.loop.tools.fetcher.close()


def scores(held: dict[int, list[dict[str, Any]]]) -> dict[int, float]:
    return {task: found[0]["score"] for task, found in held.items()}


def test_blind_images_keep_their_place_and_lose_their_tick(studio: BlindStudio) -> None:
    studio.share(SHARE)
    assert studio.learn().served == "v1"
    assert len(studio.of(BLIND)) > 3
    assert studio.of(AUDIT)
    assert studio.of(TICKED)
    studio.check("v1")
    held, states = studio.held("v1"), studio.states()
    # /predict answers the same, and what the version says is not in it either.
    _, said = studio.predict({task: f"/data/{task}" for task in states})
    assert {task: score for task, (score, _) in said.items()} == {
        task: held[task][0]["score"] for task in states
    }
    assert {task for task, (_, ticked) in said.items() if ticked} == studio.of(TICKED)
    # Had none been blind, the order would have been the same.
    order = studio.queue()
    assert [task for task in order if states[task] == BLIND] != order[: len(studio.of(BLIND))]


@pytest.mark.parametrize(("before", "after"), [(0.0, SHARE), (0.5, 0.15)])
def test_another_share_sends_exactly_what_changes(
    studio: BlindStudio, before: float, after: float
) -> None:
    studio.share(before)
    studio.learn()
    was, states = studio.held("v1"), studio.states()
    studio.share(after)
    turned = {task for task, state in studio.states().items() if state != states[task]}
    assert turned
    assert studio.settle().served == "v1"
    studio.check("v1")
    now = studio.held("v1")
    assert {task for task in now if now[task][0]["id"] != was[task][0]["id"]} == turned
    assert scores(now) == scores(was)
    assert [order.name for order in studio.orders()] == ["v0", "v0.1", "v1"]
    # And nothing more afterwards.
    sent = len(studio.server.predictions), next(studio.server.numbers)
    studio.settle()
    assert len(studio.server.predictions) == sent[0]
    assert next(studio.server.numbers) == sent[1] + 1
    with studio.store.read() as session:
        assert set(session.scalars(select(SentPart.blind_share))) == {after}


def test_a_trainer_killed_at_any_instant_knows_what_it_sent(studio: BlindStudio) -> None:
    studio.settle()
    studio.label_next(12)
    fate = Mortal(1)
    until_it_lives(studio, fate)
    studio.share(SHARE)
    until_it_lives(studio, fate)
    assert fate.deaths > 2
    fate.lives = False
    assert studio.settle().served == "v1"
    studio.check("v1")
    with studio.store.read() as session:
        told = session.execute(select(Serving.version, Serving.number)).all()
    assert [row for row in dict.fromkeys(map(tuple, told)) if row[1] == 0] == [(0, 0), (1, 0)]


def test_a_version_that_serves_again_follows_the_share_of_now(studio: BlindStudio) -> None:
    studio.learn()
    was = studio.held("v1")
    studio.label_next(10)
    assert studio.settle().served == "v2"
    studio.share(SHARE)
    studio.settle()
    studio.check("v2")
    roll_back(studio.store, of_the_engine(studio.settings), 1)
    assert studio.settle().served == "v1"
    studio.check("v1")
    now = studio.held("v1")
    anew = {task for task in studio.queue() if now[task][0]["id"] != was[task][0]["id"]}
    assert anew == studio.of(BLIND)
    with studio.store.read() as session:
        told = session.scalars(select(Serving.version).order_by(Serving.id)).all()
    assert list(dict.fromkeys(told)) == [0, 1, 2]
    assert told[-1] == 1


def test_a_task_that_comes_later_is_drawn_too(studio: BlindStudio) -> None:
    studio.share(1.0)
    studio.learn()
    studio.server.add_picture(41, picture(41))
    studio.settle()
    studio.check("v1")
    assert not studio.of(TICKED)
    assert 41 in studio.offers(1)


def test_near_duplicates_are_blind_together(studio: BlindStudio) -> None:
    studio.share(0.5)
    for task in range(41, 61):
        studio.server.add_picture(task, picture(task - 40))
    studio.learn()
    leaders, states = studio.leaders(), studio.states()
    pairs = [t for t in states if t > 40 and leaders[t] == leaders[t - 40]]
    assert len({studio.state(t, leaders) for t in pairs}) > 1
    held = studio.held("v1")
    for task in pairs:
        if task - 40 in states:
            assert bool(held[task][0]["result"]) == bool(held[task - 40][0]["result"])


def test_orders_of_before_are_forgotten_after_a_day(studio: BlindStudio) -> None:
    studio.share(SHARE)
    studio.learn()
    with studio.store.write() as session:
        session.get_one(Project, 1).choosing = False
    assert studio.settle().served == "v1.1"
    assert studio.offers(1, 0)
    with studio.store.write() as session:
        for row in session.scalars(select(SentPart)):
            row.begun_at -= 2 * KEPT_SECONDS
        session.get_one(Project, 1).choosing = True
    assert studio.settle().served == "v1.2"
    assert not studio.offers(1, 0)
    studio.check("v1.2")
