"""Orders of small pools, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.ordering import make_order
from backend.orders import (
    places_of,
)
from backend.settings import Settings
from backend.store import Store
from backend.tables import Order, Project, Task
from model.audit import audit_place, in_audit
from model.head import Head
from tests.backend.cats_by_angle import (
    cat_head,
    picture,
    queue_of_tasks,
    queue_settings,
    serve,
)
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.queue_of import make_anew, order_of, plan, serving
from tests.backend.saved_versions import save_version


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return queue_settings(settings)


TWO_IMAGES = """<View><Image name="image" value="$image"/><Image name="other" value="$other"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices>
<Choices name="tags" toName="other" choice="multiple"><Choice value="wet"/><Choice value="old"/>
</Choices></View>"""


def test_the_least_certain_come_first(tables: Tables, settings: Settings) -> None:
    for task_id, degrees in enumerate([0, 10, 44, 60, 80, 40, 90, 48], start=1):
        tables.task(task_id, picture(degrees))
    serve(tables, settings)
    # From 45 degrees: 44 is 1 off, 48 is 3, 40 is 5, 60 is 15, 10 and 80 are 35, 0 and 90 are 45.
    assert queue_of_tasks(tables, settings)[:4] == [3, 8, 6, 4]
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
        tables.task(task_id, picture(degrees), leader=digest_of(shows) if shows else "")
    # Task 8 shows the same as task 7, which is labelled; task 9 has no image at all.
    tables.task(8, picture(45), leader=digest_of(7))
    tables.label(7, "dog")
    with tables.store.write() as session:
        session.add(Task(project_id=1, id=9))
    serve(tables, settings)
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
        tables.task(task_id, picture(degrees), leader=digest_of(1) if task_id < 3 else "")
    serve(tables, settings)
    assert queue_of_tasks(tables, settings) == [3, 1, 2]


def test_skipped_tasks_wait_behind_the_others(tables: Tables, settings: Settings) -> None:
    for task_id, degrees in enumerate([45, 40, 10], start=1):
        tables.task(task_id, picture(degrees))
    with tables.store.write() as session:
        session.get_one(Task, (1, 1)).skips = 1
    serve(tables, settings)
    assert queue_of_tasks(tables, settings) == [2, 3, 1]
    assert order_of(tables, settings).picks == [2, 3]


def test_a_task_that_needs_another_annotator_keeps_its_place(
    tables: Tables, settings: Settings
) -> None:
    for task_id, degrees in enumerate([10, 44, 46, 30], start=1):
        tables.task(task_id, picture(degrees))
    # Task 2 has one annotation of two: it is learned from, not picked again, and no twin of itself.
    tables.label(2, "cat")
    with tables.store.write() as session:
        task = session.get_one(Task, (1, 2))
        task.is_labeled, task.annotations = False, 1
    serve(tables, settings)
    order = order_of(tables, settings)
    assert order.picks == [3, 4, 1]
    assert queue_of_tasks(tables, settings) == [3, 4, 1, 2]


def test_audit_images_come_in_between_unticked(tables: Tables, settings: Settings) -> None:
    half = settings.model_copy(update={"audit_share": 0.5, "queue_head": 2, "batch_size": 2})
    for task_id in range(1, 11):
        tables.task(task_id, picture(4 * task_id))
    serve(tables, settings)
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
        tables.task(task_id, picture(4 * task_id))
    drawn = [t for t in range(1, 11) if in_audit(digest_of(t), 0.5)]
    done = [t for t in range(1, 11) if t not in drawn][:3]
    for task_id in done:
        tables.label(task_id, "cat")
        with tables.store.write() as session:
            session.get_one(Task, (1, task_id)).annotations = 1
    serve(tables, settings)
    # Three were served and none of them was an audit image, so that they come at once until they
    # are half of all, and then are every other one.
    queue = queue_of_tasks(tables, half)
    assert [task_id in drawn for task_id in queue] == [True] * 4 + [False, True, False]


def test_the_last_of_a_group_in_the_audit_set_is_unticked_too(
    tables: Tables, settings: Settings
) -> None:
    half = settings.model_copy(update={"audit_share": 0.5})
    inside = next(t for t in range(1, 99) if in_audit(digest_of(t), 0.5))
    outside = next(t for t in range(inside, 99) if not in_audit(digest_of(t), 0.5))
    tables.task(inside, picture(10))
    tables.task(outside, picture(10), leader=digest_of(inside))
    tables.task(100, picture(20))
    serve(tables, settings)
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
        tables.task(task_id, picture(3 * task_id), leader=digest_of(5) if task_id == 6 else "")
    serve(tables, settings)
    chosen = queue_of_tasks(tables, half)
    with tables.store.write() as session:
        session.get_one(Project, 1).choosing = False
    order = make_anew(tables, half)
    assert (order.strategy, order.name) == ("random", "v1.1")
    drawn = {t for t in range(1, 31) if t != 6 and in_audit(digest_of(t), 0.3)}
    queue = queue_of_tasks(tables, half)
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
    head = replace(cat_head(), weights=np.eye(16, 3, dtype=np.float32) * 9)
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
    flat = {"label": replace(cat_head(), classes=("cat", "dog", "emu")), "tags": _tags()}
    for task_id, (degrees, other) in enumerate([(0, 0), (0, 45), (44, 0)], start=1):
        tables.task(task_id, picture(degrees))
        tables.task_image(task_id, "other", picture(other))
    tables.task(4, picture(30))
    save_version(tables, settings, 1, backbone=BACKBONE, heads=flat)
    order = order_of(tables, settings)
    assert order.known == 4
    assert order.picks == [2, 3, 4]
    assert queue_of_tasks(tables, settings) == [2, 3, 4, 1]


def _tags() -> Head:
    weights = np.array([[8, -8], [-8, 8]], dtype=np.float32)
    two = np.ones(2, dtype=np.float32)
    return Head(("wet", "old"), True, weights, two * 0, two)
