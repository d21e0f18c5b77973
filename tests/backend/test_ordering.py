"""Orders of small pools, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.ordering import batch_size, make_order
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
from backend.standing import Standing, count, standing, why_due
from backend.store import Store
from backend.sync import controls_of
from backend.tables import Order, Project, Task, Version, order_name
from model.audit import audit_place, in_audit
from model.head import Head
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.queue_of import make_anew, order_of, plan, pushed, serving
from tests.backend.saved_versions import save_version

TWO_IMAGES = """<View><Image name="image" value="$image"/><Image name="other" value="$other"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices>
<Choices name="tags" toName="other" choice="multiple"><Choice value="wet"/><Choice value="old"/>
</Choices></View>"""


def _picture(degrees: float) -> np.ndarray:
    """A picture that is a cat at 0 degrees, a dog at 90, and anything at 45.

    Features are square-rooted before they are read, so these are squares.
    """
    return np.array([np.cos(np.radians(degrees)) ** 2, np.sin(np.radians(degrees)) ** 2])


def _head() -> Head:
    """Tells cats from dogs by the angle: certain at 0 and 90 degrees, helpless at 45."""
    weights = np.array([[8, 0, -99], [0, 8, -99]], dtype=np.float32)
    return Head(
        ("cat", "dog", "owl"),
        False,
        weights,
        np.zeros(3, dtype=np.float32),
        np.ones(1, dtype=np.float32),
    )


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"audit_share": 0.0, "queue_head": 3, "batch_size": 3, "strategy": "margin"}
    )


def _serve(tables: Tables, settings: Settings, number: int = 1) -> None:
    save_version(tables, settings, number, backbone=BACKBONE, heads={"label": _head()})


def _queue(tables: Tables, settings: Settings) -> list[int]:
    """The tasks as they will be served."""
    return [task_id for task_id, _ in plan(tables, settings).predictions]


def test_the_least_certain_come_first(tables: Tables, settings: Settings) -> None:
    for task_id, degrees in enumerate([0, 10, 44, 60, 80, 40, 90, 48], start=1):
        tables.task(task_id, _picture(degrees))
    _serve(tables, settings)
    # From 45 degrees: 44 is 1 off, 48 is 3, 40 is 5, 60 is 15, 10 and 80 are 35, 0 and 90 are 45.
    assert _queue(tables, settings)[:4] == [3, 8, 6, 4]
    order = order_of(tables, settings)
    assert (order.picks, order.known, order.strategy, order.name) == ([3, 8, 6], 8, "margin", "v1")
    assert places_of(order)[3] == 0.0
    assert sorted(places_of(order).values()) == [round(0.9 * n / 8, 9) for n in range(8)]
    held = dict(plan(tables, settings).predictions)
    assert [held[t].result[0]["value"]["choices"] for t in (1, 7)] == [["cat"], ["dog"]]


def test_near_duplicates_go_to_the_back_and_the_broken_behind_them(
    tables: Tables, settings: Settings
) -> None:
    for task_id, (degrees, shows) in enumerate(
        [(45, 0), (44, 1), (30, 0), (20, 0), (43, 4), (21, 4), (88, 0)], start=1
    ):
        tables.task(task_id, _picture(degrees), leader=digest_of(shows) if shows else "")
    # Task 8 shows the same as task 7, which is labelled; task 9 has no image at all.
    tables.task(8, _picture(45), leader=digest_of(7))
    tables.label(7, "dog")
    with tables.store.write() as session:
        session.add(Task(project_id=1, id=9))
    _serve(tables, settings)
    found = plan(tables, settings)
    assert [task_id for task_id, _ in found.predictions] == [1, 3, 4, 8, 2, 5, 6, 9]
    scores = [prediction.score for _, prediction in found.predictions]
    assert scores == [0, 0.3, 0.6, 0.9, 0.92475, 0.9495, 0.97425, 1.0]
    assert order_of(tables, settings).picks == [1, 3, 4]
    # They are ticked as any others are.
    assert all(prediction.result for _, prediction in found.predictions[:-1])


def test_of_near_duplicates_the_first_task_is_asked_about(
    tables: Tables, settings: Settings
) -> None:
    for task_id, degrees in enumerate([20, 45, 30], start=1):
        tables.task(task_id, _picture(degrees), leader=digest_of(1) if task_id < 3 else "")
    _serve(tables, settings)
    assert _queue(tables, settings) == [3, 1, 2]


def test_skipped_tasks_wait_behind_the_others(tables: Tables, settings: Settings) -> None:
    for task_id, degrees in enumerate([45, 40, 10], start=1):
        tables.task(task_id, _picture(degrees))
    with tables.store.write() as session:
        session.get_one(Task, (1, 1)).skips = 1
    _serve(tables, settings)
    assert _queue(tables, settings) == [2, 3, 1]
    assert order_of(tables, settings).picks == [2, 3]


def test_a_task_that_needs_another_annotator_keeps_its_place(
    tables: Tables, settings: Settings
) -> None:
    for task_id, degrees in enumerate([10, 44, 46, 30], start=1):
        tables.task(task_id, _picture(degrees))
    # Task 2 has one annotation of two: it is learned from, not picked again, and no twin of itself.
    tables.label(2, "cat")
    with tables.store.write() as session:
        task = session.get_one(Task, (1, 2))
        task.is_labeled, task.annotations = False, 1
    _serve(tables, settings)
    order = order_of(tables, settings)
    assert order.picks == [3, 4, 1]
    assert _queue(tables, settings) == [3, 4, 1, 2]


def test_audit_images_come_in_between_unticked(tables: Tables, settings: Settings) -> None:
    half = settings.model_copy(update={"audit_share": 0.5, "queue_head": 2, "batch_size": 2})
    for task_id in range(1, 11):
        tables.task(task_id, _picture(4 * task_id))
    _serve(tables, settings)
    drawn = [t for t in range(1, 11) if in_audit(digest_of(t), 0.5)]
    others = [t for t in range(10, 0, -1) if t not in drawn]
    drawn.sort(key=lambda task_id: audit_place(digest_of(task_id)))
    assert len(drawn) == len(others) == 5
    # One of two: the first, as it is in the middle of the two.
    wanted = [t for pair in zip(drawn, others, strict=True) for t in pair]
    found = plan(tables, half)
    assert [task_id for task_id, _ in found.predictions] == wanted
    assert {t for t, prediction in found.predictions if not prediction.result} == set(drawn)
    assert order_of(tables, half).picks == others[:2]


def test_audit_images_go_on_from_what_was_served(tables: Tables, settings: Settings) -> None:
    half = settings.model_copy(update={"audit_share": 0.5})
    for task_id in range(1, 11):
        tables.task(task_id, _picture(4 * task_id))
    drawn = [t for t in range(1, 11) if in_audit(digest_of(t), 0.5)]
    done = [t for t in range(1, 11) if t not in drawn][:3]
    for task_id in done:
        tables.label(task_id, "cat")
        with tables.store.write() as session:
            session.get_one(Task, (1, task_id)).annotations = 1
    _serve(tables, settings)
    # Three were served and none of them was an audit image, so that they come at once until they
    # are half of all, and then are every other one.
    queue = _queue(tables, half)
    assert [task_id in drawn for task_id in queue] == [True] * 4 + [False, True, False]


def test_the_last_of_a_group_in_the_audit_set_is_unticked_too(
    tables: Tables, settings: Settings
) -> None:
    half = settings.model_copy(update={"audit_share": 0.5})
    inside = next(t for t in range(1, 99) if in_audit(digest_of(t), 0.5))
    outside = next(t for t in range(inside, 99) if not in_audit(digest_of(t), 0.5))
    tables.task(inside, _picture(10))
    tables.task(outside, _picture(10), leader=digest_of(inside))
    tables.task(100, _picture(20))
    _serve(tables, settings)
    found = dict(plan(tables, half).predictions)
    assert found[inside].result == found[outside].result == []
    assert found[outside].score >= 0.9


def test_with_no_labels_typical_and_spread_images_come_first(
    tables: Tables, settings: Settings
) -> None:
    cold = settings.model_copy(update={"strategy": "typiclust"})
    classes = tables.clusters(30, noise=0.05)
    order = order_of(tables, cold)
    assert (order.name, order.known) == ("v0", 30)
    assert {classes[task_id - 1] for task_id in order.picks} == {"cat", "dog", "owl"}
    found = plan(tables, cold)
    assert [task_id for task_id, _ in found.predictions[:3]] == order.picks
    assert len(found.predictions) == 30
    assert all(prediction.result == [] for _, prediction in found.predictions)
    # The rest in the fixed random order.
    own = {t: p.score for t, p in found.predictions[3:]}
    assert list(own) == sorted(own, key=own.__getitem__)


def test_before_any_image_is_known_the_order_is_random_and_fixed(
    tables: Tables, settings: Settings
) -> None:
    for task_id in range(1, 41):
        tables.task(task_id)
    first = make_anew(tables, settings)
    assert (first.picks, first.known, first.name) == ([], 0, "v0")
    queue = sorted(places_of(first), key=places_of(first).__getitem__)
    assert queue != sorted(queue)
    again = make_anew(tables, settings)
    assert (again.name, again.places) == ("v0.1", first.places)
    other = make_anew(tables, settings.model_copy(update={"seed": 1}))
    assert other.places != first.places


def test_where_choosing_does_not_pay_chance_picks(tables: Tables, settings: Settings) -> None:
    half = settings.model_copy(update={"audit_share": 0.3})
    for task_id in range(1, 31):
        tables.task(task_id, _picture(3 * task_id), leader=digest_of(5) if task_id == 6 else "")
    _serve(tables, settings)
    chosen = _queue(tables, half)
    with tables.store.write() as session:
        session.get_one(Project, 1).choosing = False
    order = make_anew(tables, half)
    assert (order.strategy, order.name) == ("random", "v1.1")
    drawn = {t for t in range(1, 31) if t != 6 and in_audit(digest_of(t), 0.3)}
    queue = _queue(tables, half)
    assert set(queue) == set(chosen)
    # Only the others are shuffled; audit images stand where they stood, twins at the back.
    slots = [place for place, task_id in enumerate(chosen) if task_id in drawn]
    assert [queue[place] for place in slots] == [chosen[place] for place in slots]
    assert queue[-1] == chosen[-1] == 6
    shuffled = [t for t in queue if t not in drawn]
    assert shuffled != [t for t in chosen if t not in drawn]


def test_every_process_makes_the_same_order(tables: Tables, settings: Settings) -> None:
    herding = settings.model_copy(update={"strategy": "uherding", "audit_share": 0.2})
    tables.clusters(50)
    for task_id in range(1, 10):
        tables.label(task_id, ("cat", "dog", "owl")[(task_id - 1) % 3])
    head = replace(_head(), weights=np.eye(16, 3, dtype=np.float32) * 9)
    save_version(tables, settings, 1, backbone=BACKBONE, heads={"label": head})

    def made() -> Order:
        with tables.store.read() as session:
            project, artifact = tables.project(), serving(tables, settings)
            return make_order(session, project, artifact, herding, BACKBONE, "")

    one, other = made(), made()
    assert len(one.picks) == 3
    assert (one.picks, one.places, one.scale) == (other.picks, other.places, other.scale)
    make_anew(tables, herding)
    assert made().name == "v1.1"


def test_a_task_with_two_images_is_asked_about_if_either_is_unsure(
    store: Store, settings: Settings
) -> None:
    tables = Tables(store, TWO_IMAGES)
    flat = {"label": replace(_head(), classes=("cat", "dog", "emu")), "tags": _tags()}
    for task_id, (degrees, other) in enumerate([(0, 0), (0, 45), (44, 0)], start=1):
        tables.task(task_id, _picture(degrees))
        tables.task_image(task_id, "other", _picture(other))
    tables.task(4, _picture(30))
    save_version(tables, settings, 1, backbone=BACKBONE, heads=flat)
    order = order_of(tables, settings)
    assert order.known == 4
    assert order.picks == [2, 3, 4]
    assert _queue(tables, settings) == [2, 3, 4, 1]


def _tags() -> Head:
    weights = np.array([[8, -8], [-8, 8]], dtype=np.float32)
    two = np.ones(2, dtype=np.float32)
    return Head(("wet", "old"), True, weights, two * 0, two)


# When an order is due

NOW = Standing(known=100, waiting=90, complete=True, strategy="margin", audit_share=0.1, pace=0.1)


def _order(**values: object) -> Order:
    given = {
        "project_id": 1,
        "version": 1,
        "number": 0,
        "strategy": "margin",
        "audit_share": 0.1,
        "pace": 0.1,
        "known": 100,
        "picks": [],
    }
    return Order(**{**given, **values})


@pytest.mark.parametrize(
    ("order", "now", "said"),
    [
        (_order(), {}, ""),
        (_order(known=80), {}, ""),
        (_order(known=66), {}, "100 tasks are known, 66 before"),
        (_order(known=0), {}, "100 tasks are known, 0 before"),
        (_order(known=66), {"complete": False}, ""),
        (_order(known=0), {"complete": False}, ""),
        (_order(known=0), {"complete": False, "known": 1000}, "1000 tasks are known, 0 before"),
        (_order(known=100), {"complete": False, "known": 999}, ""),
        (_order(known=100), {"complete": False, "known": 1000}, "1000 tasks are known, 100 before"),
        (_order(known=900), {"complete": False, "known": 8999}, ""),
        (_order(known=0), {"known": 0}, ""),
        (_order(strategy="random"), {}, "margin picks, random before"),
        (_order(strategy="", known=0), {"complete": False}, ""),
        (_order(audit_share=0.2), {}, "share of the audit set"),
        (_order(pace=0.16), {}, "share of the audit set"),
        (_order(pace=0.14), {}, ""),
        (_order(pace=0.06), {}, "share of the audit set"),
        (_order(audit_share=0.0, pace=0.0), {"audit_share": 0.0, "pace": 0.0}, ""),
        (None, {}, "a new version"),
        (None, {"complete": False}, ""),
        (None, {"complete": False, "waiting": 128}, "a new version"),
    ],
)
def test_when_an_order_is_due(
    tables: Tables, order: Order | None, now: dict[str, float], said: str
) -> None:
    with tables.store.read() as session:
        found = why_due(session, 1, order, replace(NOW, **now))
    assert (said in found) if said else found == ""


def test_a_project_opens_before_anything_is_known(tables: Tables) -> None:
    nothing = replace(NOW, known=0, waiting=0, complete=False)
    with tables.store.read() as session:
        assert why_due(session, 0, None, nothing) == "nothing is learned yet"


def test_an_order_whose_picks_are_used_up_is_made_anew(tables: Tables) -> None:
    for task_id in range(1, 5):
        tables.task(task_id)
    order = _order(picks=[1, 2, 3])

    def due() -> str:
        with tables.store.read() as session:
            return why_due(session, 1, order, NOW)

    tables.label(1, "cat")
    assert due() == ""
    with tables.store.write() as session:
        session.get_one(Task, (1, 2)).skips = 1
        session.delete(session.get_one(Task, (1, 3)))
    assert due() == "its picks are used up"


def test_how_a_project_stands(tables: Tables, settings: Settings) -> None:
    tables.clusters(8)
    tables.task(9)
    tables.task(10, np.eye(1, 16)[0], leader=None)
    tables.label(1, "cat")

    def stands() -> Standing:
        with tables.store.read() as session:
            return standing(session, tables.project(), settings, count(session, 1, BACKBONE))

    share = settings.audit_share
    assert stands() == Standing(8, 7, False, "margin", share, share)
    wide, narrow = (
        {"label": {"held_out": {"accuracy": {"low": 0.9 - width, "high": 0.9 + width}}}}
        for width in (0.04, 0.02)
    )
    tenth = settings.model_copy(update={"audit_share": 0.1})
    for number, measures, pace in ((1, wide, 0.1), (2, narrow, 0.1 * (0.02 / 0.03) ** 2)):
        with tables.store.write() as session:
            session.add(_version(number, 10, {"measures": measures}))
        with tables.store.read() as session:
            counts = count(session, 1, BACKBONE)
            found = standing(session, tables.project(), tenth, counts).pace
        assert found == pytest.approx(pace)


def _version(number: int, labels: int, metrics: dict[str, object]) -> Version:
    return Version(
        project_id=1,
        number=number,
        created_at=0.0,
        kept=True,
        reason="",
        labels=labels,
        backbone=BACKBONE,
        metrics=metrics,
    )


@pytest.mark.parametrize(
    ("labels", "options", "batch"),
    [
        ([], {}, 10),  # three classes, two images each: six, and ten at least
        ([], {"min_new_labels": 15}, 15),
        ([12], {}, 10),
        ([12, 24, 60, 72], {}, 12),
        ([12, 42, 72], {}, 30),
        ([12, 42, 72], {"queue_head": 20}, 20),
        ([12, 42, 72], {"batch_size": 7}, 7),
        ([40, 30], {}, 10),  # labels were taken back
    ],
)
def test_a_batch_is_what_is_labelled_between_two_trainings(
    tables: Tables,
    settings: Settings,
    labels: list[int],
    options: dict[str, int],
    batch: int,
) -> None:
    with tables.store.write() as session:
        for number, count in enumerate(labels, start=1):
            session.add(_version(number, count, {}))
    given = settings.model_copy(update={"batch_size": 0, "queue_head": 200, **options})
    with tables.store.read() as session:
        project = tables.project()
        assert batch_size(session, project, given, controls_of(project)) == batch


# Places and names


@given(st.dictionaries(st.integers(0, 2**62), st.floats(0, 0.999), max_size=40))
def test_places_are_kept_whole(places: dict[int, float]) -> None:
    ids = np.array(sorted(places), dtype=np.int64)
    kept = places_of(_order(places=pack_places(ids, [places[int(t)] for t in ids])))
    assert kept == places
    assert np.array_equal(kept.at(ids), list(kept.values()))
    assert np.isnan(kept.at(np.array([-1, 2**62 + 1]))).all()


def test_an_order_without_places_has_none() -> None:
    assert places_of(None) == places_of(_order(places=b"")) == {}


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
    _serve_wide(tables, settings)
    assert name() == "v1"


def _serve_wide(tables: Tables, settings: Settings) -> None:
    head = replace(_head(), weights=np.eye(16, 3, dtype=np.float32) * 9)
    save_version(tables, settings, 1, backbone=BACKBONE, heads={"label": head})


def test_latecomers_stand_between_their_neighbours(tables: Tables, settings: Settings) -> None:
    for task_id in range(1, 11):
        tables.task(task_id, _picture(4 * task_id))
    _serve(tables, settings)
    pushed(tables, plan(tables, settings))
    # Picked were 40, 36 and 32 degrees; the rest stands by its margin.
    tables.task(11, _picture(14))
    tables.task(12, _picture(45))
    tables.task(13, _picture(45), leader=digest_of(2))
    tables.task(14, _picture(3), leader=digest_of(11))
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
        tables.task(task_id, _picture(2 * task_id))
    _serve(tables, settings)
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
    tables.task(late, _picture(45))
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
        tables.task(task_id, _picture(9 * task_id))
    _serve(tables, settings)
    first = places_of(order_of(tables, settings))
    _serve(tables, settings, 2)
    order_of(tables, settings)
    with tables.store.read() as session:
        assert places_of(newest_order(session, 1, 1)) == first
        assert newest_order(session, 1, 3) is None
