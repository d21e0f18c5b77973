from __future__ import annotations

import html
import re
from collections.abc import Callable

import numpy as np
import pytest
from flask.testing import FlaskClient

from backend.orders import places_of
from backend.queue_view import (
    BROKEN,
    BY_CHANCE,
    LATE,
    MEASURES,
    SKIPPED,
    TWIN,
    UNCERTAIN,
    UNLEARNED,
    Waiting,
    next_in_queue,
)
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Task
from backend.withholding import Withholding
from model.audit import in_audit
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.queue_of import make_anew, order_of, plan, pushed, serving
from tests.backend.saved_versions import save_version

Look = Callable[..., list[Waiting]]
CENTRES = np.eye(3, 16) * 2


@pytest.fixture
def look(store: Store, tables: Tables, settings: Settings) -> Look:
    """The queue of project 1 as the page shows it."""

    def read(most: int = 60) -> list[Waiting]:
        with store.read() as session:
            project = session.get_one(Project, 1)
            artifact = serving(tables, settings)
            return next_in_queue(session, project, artifact, Withholding.of(1, settings), most)

    return read


@pytest.fixture
def learned(tables: Tables, settings: Settings) -> Tables:
    """Thirty tasks in three clusters, six of them labelled, a version and its order."""
    classes = tables.clusters(30)
    for task in range(1, 7):
        tables.label(task, classes[task - 1])
    weights = np.zeros((16, 3), dtype=np.float32)
    weights[:3] = 4 * np.eye(3)
    save_version(tables, settings, 1, weights=weights, backbone=BACKBONE)
    return tables


def audit_tasks(settings: Settings, count: int = 30) -> set[int]:
    return {t for t in range(1, count + 1) if in_audit(digest_of(t), settings.audit_share)}


def test_nothing_is_shown_without_an_order(look: Look, tables: Tables) -> None:
    tables.task(1)
    assert look() == []


def test_while_nothing_is_learned_chance_decides(
    look: Look, tables: Tables, settings: Settings
) -> None:
    for task in range(1, 8):
        tables.task(task)
    order_of(tables, settings)
    found = look()
    assert sorted(each.task for each in found) == list(range(1, 8))
    assert {each.why for each in found} == {UNLEARNED}
    assert not any(each.likely or each.digest for each in found)


def test_the_order_is_the_orders_and_the_classes_are_the_heads(
    look: Look, learned: Tables, settings: Settings
) -> None:
    order = order_of(learned, settings)
    found = look()
    places = places_of(order)
    assert [each.task for each in found] == sorted(places, key=lambda task: places[task])
    assert [each.place for each in found] == list(range(1, 25))
    assert [each.task for each in look(5)] == [each.task for each in found[:5]]
    artifact = serving(learned, settings)
    assert artifact is not None
    audit = audit_tasks(settings)
    for each in found:
        assert each.digest == digest_of(each.task)
        if each.task in audit:
            assert each.likely == []
            continue
        ((control, likely),) = each.likely
        assert control == "label"
        assert likely[0][0] == ("cat", "dog", "owl")[(each.task - 1) % 3]
        assert likely[0][1] > likely[1][1] > 0


def test_every_task_says_why_it_stands_there(
    look: Look, learned: Tables, settings: Settings, store: Store
) -> None:
    audit = audit_tasks(settings)
    free = [t for t in range(7, 31) if t not in audit]
    # A near-duplicate of task 1, which is labelled, and one that somebody skipped.
    learned.task(40, CENTRES[0], leader=digest_of(1))
    with store.write() as session:
        session.get_one(Task, (1, free[0])).skips = 1
    order = make_anew(learned, settings)
    with store.write() as session:
        broken = session.get_one(Task, (1, free[1]))
        broken.pushed_version, broken.pushed_order, broken.pushed_score = 1, order.number, 1.0
    why = {each.task: each.why for each in look()}
    assert why[40] == TWIN
    assert why[free[0]] == SKIPPED
    assert why.pop(free[1]) == BROKEN
    assert {t for t, said in why.items() if said == MEASURES} == audit & set(range(7, 31))
    picked = [t for t in order.picks if t in why]
    assert picked
    for number, task in enumerate(order.picks, start=1):
        if task in why:
            assert why[task] == f"picked by the strategy {order.strategy}, as number {number}"
    rest = set(why) - audit - set(picked) - {40, free[0]}
    assert {why[task] for task in rest} <= {UNCERTAIN}


def test_a_latecomer_is_said_to_be_new(look: Look, learned: Tables, settings: Settings) -> None:
    order_of(learned, settings)
    late = next(t for t in range(50, 99) if not in_audit(digest_of(t), settings.audit_share))
    learned.task(late, CENTRES[0] + CENTRES[1])
    pushed(learned, plan(learned, settings))
    why = {each.task: each.why for each in look()}
    assert why[late] == LATE
    assert LATE not in {said for task, said in why.items() if task != late}
    make_anew(learned, settings)
    assert {each.task: each.why for each in look()}[late] != LATE


def test_where_choosing_does_not_pay_chance_decides(
    look: Look, learned: Tables, settings: Settings, store: Store
) -> None:
    with store.write() as session:
        session.get_one(Project, 1).choosing = False
    make_anew(learned, settings)
    audit = audit_tasks(settings)
    assert {each.why for each in look() if each.task not in audit} == {BY_CHANCE}


def test_a_labelled_task_leaves_the_queue(look: Look, learned: Tables, settings: Settings) -> None:
    order_of(learned, settings)
    first = look()[0].task
    learned.label(first, "cat")
    assert first not in {each.task for each in look()}


def test_the_page(client: FlaskClient, learned: Tables, settings: Settings, look: Look) -> None:
    order_of(learned, settings)
    text = client.get("/projects/1/queue").text
    found = look()
    tasks = re.findall(r'href="[^"]*/projects/1/data\?task=(\d+)"', text)
    assert [int(task) for task in tasks] == [each.task for each in found]
    assert re.findall(r'src="/images/(\w+)"', text) == [each.digest for each in found]
    read = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    for each in found:
        assert f"{each.place}. task {each.task}" in read
        assert each.why in read
    assert client.get("/projects/9/queue").status_code == 404
