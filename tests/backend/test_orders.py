from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.orders import (
    Latecomer,
    late_place,
    newest_order,
    pack_places,
    place_tasks,
    places_of,
    version_of,
    wanted_name,
)
from backend.settings import Settings
from backend.tables import Order, Project, order_name
from model.audit import audit_place, in_audit
from tests.backend.cats_by_angle import (
    picture,
    queue_settings,
    serve,
    serve_wide,
)
from tests.backend.conftest import Tables, digest_of
from tests.backend.queue_of import make_anew, order_of, plan, pushed


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return queue_settings(settings)


@given(st.dictionaries(st.integers(0, 2**62), st.floats(0, 0.999), max_size=40))
def test_places_are_kept_whole(places: dict[int, float]) -> None:
    ids = np.array(sorted(places), dtype=np.int64)
    kept = places_of(Order(places=pack_places(ids, [places[int(t)] for t in ids])))
    assert kept == places
    assert np.array_equal(kept.at(ids), list(kept.values()))
    assert np.isnan(kept.at(np.array([-1, 2**62 + 1]))).all()


def test_an_order_without_places_has_none() -> None:
    assert places_of(None) == places_of(Order(places=b"")) == {}


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1))
def test_the_name_of_an_order_names_its_version(version: int, number: int) -> None:
    assert version_of(order_name(version, number)) == version


@pytest.mark.parametrize("name", ["", "v", "v01", "v1.0", "v1.", "1", "My model", "v1.2.3", "v-1"])
def test_what_is_no_order(name: str) -> None:
    assert version_of(name) is None


def test_the_name_that_label_studio_should_go_by(tables: Tables, settings: Settings) -> None:
    def name() -> str:
        with tables.store.read() as session:
            return wanted_name(session, session.get_one(Project, 1))

    tables.clusters(4)
    assert name() == "v0"
    make_anew(tables, settings)
    assert name() == "v0"
    make_anew(tables, settings)
    assert name() == "v0.1"
    serve_wide(tables, settings)
    assert name() == "v1"


def test_latecomers_stand_between_their_neighbours(tables: Tables, settings: Settings) -> None:
    for task_id in range(1, 11):
        tables.task(task_id, picture(4 * task_id))
    serve(tables, settings)
    pushed(tables, plan(tables, settings))
    # Picked were 40, 36 and 32 degrees; the rest stands by its margin.
    tables.task(11, picture(14))
    tables.task(12, picture(45))
    tables.task(13, picture(45), leader=digest_of(2))
    tables.task(14, picture(3), leader=digest_of(11))
    more = plan(tables, settings)
    order = order_of(tables, settings)
    places, late = places_of(order), {t: p.score for t, p in more.predictions}
    assert more.plan.order == 0
    assert places[4] < late[11] < places[3]
    assert places[8] < late[12] < places[7]
    assert 0.9 <= late[13] <= 0.999
    assert 0.9 <= late[14] <= 0.999
    pushed(tables, more)
    assert plan(tables, settings).predictions == []


def test_a_late_audit_image_stands_by_its_place(tables: Tables, settings: Settings) -> None:
    half = settings.model_copy(update={"audit_share": 0.5})
    for task_id in range(1, 21):
        tables.task(task_id, picture(2 * task_id))
    serve(tables, settings)
    pushed(tables, plan(tables, half))
    drawn = [t for t in range(1, 21) if in_audit(digest_of(t), 0.5)]
    drawn.sort(key=lambda task_id: audit_place(digest_of(task_id)))
    here, there = drawn[1], drawn[2]
    between = audit_place(digest_of(here)), audit_place(digest_of(there))
    late = next(
        t
        for t in range(21, 9999)
        if in_audit(digest_of(t), 0.5) and between[0] < audit_place(digest_of(t)) < between[1]
    )
    tables.task(late, picture(45))
    [(task_id, prediction)] = plan(tables, half).predictions
    places = places_of(order_of(tables, half))
    assert (task_id, prediction.result) == (late, [])
    assert places[here] < prediction.score < places[there]


def test_without_an_order_a_task_stands_by_its_own_score(tables: Tables) -> None:
    assert late_place(None, Latecomer(0.999 / 2)) == pytest.approx(0.45)
    assert late_place(None, Latecomer(0.5, twin=True)) >= 0.9
    assert late_place(None, Latecomer(1.0)) == 1.0
    with tables.store.read() as session:
        assert place_tasks(session, 1, None, {-1: 0.0, 5: 1.0}, {}, 0.1) == {-1: 0.0, 5: 1.0}


def test_the_places_of_what_was_before_are_found_again(tables: Tables, settings: Settings) -> None:
    for task_id in range(1, 6):
        tables.task(task_id, picture(9 * task_id))
    serve(tables, settings)
    first = places_of(order_of(tables, settings))
    serve(tables, settings, 2)
    order_of(tables, settings)
    with tables.store.read() as session:
        assert places_of(newest_order(session, 1, 1)) == first
        assert newest_order(session, 1, 3) is None
