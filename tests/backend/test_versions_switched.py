"""Versions that were switched by hand, in the loop: what is trained and pushed afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from backend.champion import Champions
from backend.dataset import learning_state
from backend.errors import SetupError
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.projects import list_versions
from backend.push import Pace, Pushing, push, recover_push
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project
from backend.training import CHANGED_MEANWHILE, TrainingReport, train
from backend.versions import promote, roll_back
from tests.backend.conftest import Tables
from tests.backend.prediction_keeper import PredictionKeeper
from tests.backend.queue_of import Planned, make_anew, plan
from tests.backend.saved_versions import IDENTITY, embed_again


@pytest.fixture
def leases(store: Store, tables: Tables) -> Leases:
    made = Leases(store, "test", 30)
    assert made.acquire(1)
    return made


def _learn(tables: Tables, leases: Leases, settings: Settings, labels: int) -> TrainingReport:
    classes = [("cat", "dog", "owl")[n % 3] for n in range(labels)]
    for task_id, name in enumerate(classes, start=1):
        tables.label(task_id, name)
    champion = Champions(tables.store, settings.data_dir).get(1)
    return train(tables.store, leases, settings, 1, IDENTITY, champion)


@pytest.fixture
def learned(tables: Tables, leases: Leases, settings: Settings) -> Tables:
    """60 tasks; v1 learned from 20 labels, v2 from 30 and serves."""
    tables.clusters(60)
    embed_again(tables)
    assert _learn(tables, leases, settings, 20).version == 1
    assert _learn(tables, leases, settings, 30).kept
    return tables


def test_a_rollback_holds_until_new_labels_pass_the_gate(
    learned: Tables, store: Store, leases: Leases, settings: Settings
) -> None:
    def due() -> bool:
        with store.read() as session:
            state = learning_state(session, learned.project(), IDENTITY)
            return state.digest != learned.project().attempted or state.changed > 0

    assert not due()
    roll_back(store, settings, 1)
    assert not due()
    assert _learn(learned, leases, settings, 42).version == 3
    project = learned.project()
    assert (project.champion, project.history) == (3, [1])


def test_a_training_that_began_before_a_rollback_is_done_again(
    learned: Tables, store: Store, leases: Leases, settings: Settings
) -> None:
    champion = Champions(store, settings.data_dir).get(1)
    learned.label(40, "cat")
    roll_back(store, settings, 1)
    report = train(store, leases, settings, 1, IDENTITY, champion)
    assert (report.version, report.reason) == (None, CHANGED_MEANWHILE)
    with store.read() as session:
        assert [v["version"] for v in list_versions(session, 1)] == ["v2", "v1"]
        state = learning_state(session, learned.project(), IDENTITY)
    assert state.digest != learned.project().attempted
    champion = Champions(store, settings.data_dir).get(1)
    assert train(store, leases, settings, 1, IDENTITY, champion).version == 3


@dataclass(frozen=True)
class Queue:
    """The project of ``learned`` as its trainer sends it to a keeper of predictions."""

    tables: Tables
    client: LabelStudio
    leases: Leases
    settings: Settings

    def lacking(self) -> Planned:
        """What is to be sent."""
        return plan(self.tables, self.settings)

    def push(self, planned: Planned) -> None:
        """Send it."""
        pushing = Pushing(self.tables.store, self.client, self.leases, Pace(), lambda _: None)
        push(pushing, 1, planned.plan, self.settings.queue_head)

    def recover(self, version: int) -> None:
        """Ask what is held of a version."""
        recover_push(self.tables.store, self.client, self.leases, 1, version)

    def roll_back(self) -> None:
        """Put back the version before."""
        roll_back(self.tables.store, self.settings, 1)


@pytest.fixture
def queue(learned: Tables, keeper_client: LabelStudio, leases: Leases, settings: Settings) -> Queue:
    return Queue(learned, keeper_client, leases, settings)


def test_after_a_rollback_only_what_came_since_is_pushed(
    queue: Queue, learned: Tables, keeper: PredictionKeeper
) -> None:
    queue.roll_back()
    queue.recover(1)
    queue.push(queue.lacking())
    promote(learned.store, queue.settings, 1, 2)
    queue.recover(2)
    queue.push(queue.lacking())
    learned.task(61, np.eye(3, 16)[0])
    embed_again(learned)
    queue.roll_back()

    assert learned.project().pushing
    queue.recover(1)
    assert not learned.project().pushing
    more = queue.lacking()
    assert [task_id for task_id, _ in more.predictions] == [61]
    queue.push(more)
    held = [task_id for task_id, version in keeper.held if version == "v1"]
    assert sorted(held) == list(range(31, 62))
    assert keeper.orders_by == learned.project().served == "v1"


def test_what_label_studio_lost_is_pushed_again(queue: Queue, keeper: PredictionKeeper) -> None:
    queue.push(queue.lacking())
    assert queue.lacking().predictions == []
    # Deleted to be replaced, by a trainer that was killed before it sent the new one.
    keeper.held.remove((40, "v2"))
    queue.recover(2)
    more = queue.lacking()
    assert [task_id for task_id, _ in more.predictions] == [40]
    queue.push(more)
    assert sorted(task for task, _ in keeper.held) == list(range(31, 61))


def test_a_plan_made_before_a_rollback_sends_nothing(
    queue: Queue, learned: Tables, keeper: PredictionKeeper
) -> None:
    stale = queue.lacking()
    queue.roll_back()
    queue.push(stale)
    # Of the version that serves now nothing is sent either, before Label Studio was asked.
    queue.push(queue.lacking())
    assert (keeper.held, keeper.orders_by) == ([], "")
    assert learned.project().pushing


def test_a_rollback_during_a_push_is_not_forgotten(
    queue: Queue, learned: Tables, keeper: PredictionKeeper
) -> None:
    keeper.while_storing = queue.roll_back
    queue.push(queue.lacking())
    assert {version for _, version in keeper.held} == {"v2"}
    assert learned.project().pushing
    assert keeper.orders_by == ""
    # The promotion that comes while Label Studio is asked is not forgotten either.
    queue.recover(2)
    assert learned.project().pushing
    queue.recover(1)
    assert not learned.project().pushing


def test_that_a_version_is_ordered_anew_is_said(
    learned: Tables, store: Store, settings: Settings
) -> None:
    roll_back(store, settings, 1)
    make_anew(learned, settings)
    promote(store, settings, 1, 2)
    assert roll_back(store, settings, 1).warnings == []
    promote(store, settings, 1, 2)
    entropy = settings.model_copy(update={"strategy": "entropy"})
    assert promote(store, entropy, 1, 1).warnings == [
        "The last order of v1 was picked by auto; it is made anew by entropy."
    ]
    with store.write() as session:
        session.get_one(Project, 1).choosing = False
    promote(store, settings, 1, 2)
    assert promote(store, settings, 1, 1).warnings == [
        "The last order of v1 was picked by auto; it is made anew by random."
    ]


def test_nothing_is_switched_when_another_version_serves_by_then(
    learned: Tables, store: Store, settings: Settings
) -> None:
    with pytest.raises(SetupError, match="v2 was promoted meanwhile"):
        promote(store, settings, 1, 1, serving=1)
    with pytest.raises(SetupError, match="v2 was promoted meanwhile"):
        roll_back(store, settings, 1, serving=1)
    assert learned.project().champion == 2
    assert promote(store, settings, 1, 1, serving=2).version == "v1"
