from __future__ import annotations

import hashlib

import numpy as np
import pytest

from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.push import Pace, Pushing, push
from backend.settings import Settings
from backend.store import Store
from backend.tables import ImageSource, Task, TaskImage
from backend.training import train
from model.audit import in_audit
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.prediction_keeper import PredictionKeeper
from tests.backend.queue_of import plan, pushed


@pytest.fixture
def learned(store: Store, tables: Tables, settings: Settings) -> Tables:
    """Tasks 1 to 60, of which 1 to 30 are labelled and learned."""
    for task_id, name in enumerate(tables.clusters(60)[:30], start=1):
        tables.label(task_id, name)
    leases = Leases(store, "test", 30)
    assert leases.acquire(1)
    assert train(store, leases, settings, 1, BACKBONE, None).kept
    return tables


def _break_image(tables: Tables, task_id: int) -> None:
    with tables.store.write() as session:
        source = session.get_one(TaskImage, (1, task_id, "image")).source
        row = session.get(ImageSource, source) or ImageSource(source=source)
        session.add(row)
        row.digest, row.failure = None, "cut off"


def test_without_a_model_every_task_gets_its_place(tables: Tables, settings: Settings) -> None:
    tables.clusters(20)
    found = plan(tables, settings)
    assert (found.name, len(found.predictions)) == ("v0", 20)
    assert all(p.result == [] for _, p in found.predictions)
    pushed(tables, found)
    assert plan(tables, settings).predictions == []


def test_the_unlabelled_are_pushed_in_order_and_audit_images_unticked(
    learned: Tables, settings: Settings
) -> None:
    found = plan(learned, settings)
    assert found.name == "v1"
    assert sorted(task_id for task_id, _ in found.predictions) == list(range(31, 61))
    scores = [prediction.score for _, prediction in found.predictions]
    assert scores == [round(0.9 * place / 30, 9) for place in range(30)]
    unticked = {task_id for task_id, prediction in found.predictions if not prediction.result}
    drawn = {t for t in range(31, 61) if in_audit(digest_of(t), settings.audit_share)}
    assert unticked == drawn
    assert 0 < len(drawn) < 10


def test_only_what_is_missing_ispushed(learned: Tables, settings: Settings) -> None:
    pushed(learned, plan(learned, settings))
    found = plan(learned, settings)
    assert (found.name, found.predictions) == ("v1", [])
    learned.task(61, np.eye(3, 16)[0])
    learned.task(62)
    found = plan(learned, settings)
    assert [task_id for task_id, _ in found.predictions] == [61]


def test_a_task_that_is_unlabelled_again_comes_back(learned: Tables, settings: Settings) -> None:
    pushed(learned, plan(learned, settings))
    with learned.store.write() as session:
        session.get_one(Task, (1, 5)).is_labeled = False
    assert [task_id for task_id, _ in plan(learned, settings).predictions] == [5]


def test_an_image_that_cannot_be_had_is_served_last(learned: Tables, settings: Settings) -> None:
    learned.task(70)
    _break_image(learned, 70)
    found = plan(learned, settings)
    task_id, prediction = found.predictions[-1]
    assert (task_id, prediction.score, prediction.result) == (70, 1.0, [])


def test_an_image_that_is_mended_gets_its_place(learned: Tables, settings: Settings) -> None:
    _break_image(learned, 40)
    found = plan(learned, settings)
    assert found.predictions[-1][0] == 40
    pushed(learned, found)
    with learned.store.write() as session:
        source = session.get_one(TaskImage, (1, 40, "image")).source
        row = session.get_one(ImageSource, source)
        row.digest, row.failure = hashlib.sha256(b"40").hexdigest(), ""
    found = plan(learned, settings)
    assert [task_id for task_id, _ in found.predictions] == [40]
    assert found.predictions[0][1].score < 1
    assert found.plan.replaced == {40}


def test_a_task_without_an_image_is_served_last(learned: Tables, settings: Settings) -> None:
    with learned.store.write() as session:
        session.add(Task(project_id=1, id=80))
    found = plan(learned, settings)
    assert found.predictions[-1] == (80, found.predictions[-1][1])
    assert found.predictions[-1][1].score == 1.0


def test_the_head_goes_first_only_while_that_pays() -> None:
    pace = Pace()
    assert pace.head_first(1)
    pace.record(1, head_seconds=0.3, rest_seconds=2.5)
    assert pace.head_first(1)
    pace.record(1, head_seconds=2.4, rest_seconds=2.5)
    assert pace.head_first(2)
    assert [pace.head_first(1) for _ in range(Pace.TRY_AGAIN_AFTER + 1)] == [
        *[False] * Pace.TRY_AGAIN_AFTER,
        True,
    ]


def test_an_image_found_broken_before_anything_is_learned_goes_last(
    tables: Tables, settings: Settings
) -> None:
    tables.clusters(5)
    tables.task(9)
    pushed(tables, plan(tables, settings))
    _break_image(tables, 9)
    found = plan(tables, settings)
    ((task_id, prediction),) = found.predictions
    assert (task_id, prediction.score, prediction.result) == (9, 1.0, [])
    assert found.plan.replaced == {9}
    pushed(tables, found)
    assert plan(tables, settings).predictions == []


def test_a_plan_gives_its_predictions_part_by_part(learned: Tables, settings: Settings) -> None:
    _break_image(learned, 40)
    whole = plan(learned, settings)
    with learned.store.read() as session:
        parts = [whole.plan.part(session, start, start + 7) for start in range(0, 30, 7)]
    assert [pair for part in parts for pair in part] == whole.predictions
    assert len(whole.plan) == len(whole.predictions) == 30


def test_a_push_lets_new_labels_go_before_the_rest(
    learned: Tables,
    settings: Settings,
    keeper: PredictionKeeper,
    keeper_client: LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.push.A_FEW", 7)
    leases, waits = Leases(learned.store, "test", 30), [False, True, False, False, False]
    pushing = Pushing(
        learned.store, keeper_client, leases, Pace(), lambda _: None, lambda: waits.pop(0)
    )
    order = [task_id for task_id, _ in plan(learned, settings).predictions]
    push(pushing, 1, plan(learned, settings).plan, head=5)
    # The head, a few, and then something waits.
    assert [task_id for task_id, _ in keeper.held] == order[:12]
    assert keeper.orders_by == learned.project().served == "v1"
    left = plan(learned, settings)
    assert [task_id for task_id, _ in left.predictions] == order[12:]
    push(pushing, 1, left.plan, head=5)
    assert [task_id for task_id, _ in keeper.held] == order
    assert len(plan(learned, settings).plan) == 0


def test_a_slow_label_studio_gets_the_rest_in_one(
    learned: Tables,
    settings: Settings,
    keeper: PredictionKeeper,
    keeper_client: LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.push.A_FEW", 7)
    monkeypatch.setattr("backend.push.QUICK_SECONDS", 0.0)
    sent: list[int] = []
    keeper.while_storing = lambda: sent.append(len(keeper.held))
    leases = Leases(learned.store, "test", 30)
    pushing = Pushing(learned.store, keeper_client, leases, Pace(), lambda _: None, lambda: True)
    push(pushing, 1, plan(learned, settings).plan, head=5)
    assert sent == [0, 5]
    assert len(keeper.held) == 30
