"""One queue, many annotators: who is given what when several people label one project at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.label_studio_person import Json, Person
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.ordered_project import OrderedProject
from tests.e2e.team import Order, Serving, Team, places, served_too_often
from tests.e2e.tiebreak_processes import TiebreakProcesses


@pytest.fixture(scope="module")
def people(label_studio: LabelStudioServer) -> list[Person]:
    return [label_studio.create_user(f"team-{n}@tiebreak.example") for n in range(8)]


@pytest.fixture
def title(project_titles: Iterator[str]) -> str:
    return next(project_titles)


def place_of(task: int, order: Order) -> int:
    return sorted(order, key=order.__getitem__).index(task)


def test_eight_people_at_once_while_the_order_changes(
    label_studio: LabelStudioServer, people: list[Person], title: str
) -> None:
    project = OrderedProject.make(label_studio, title, 120)
    orders = {"v1": project.reorder("v1", seed=1)}
    changing = threading.Thread(target=lambda: orders.update(v2=project.reorder("v2", seed=2)))
    turns = itertools.count(1)

    def ask(person: Person) -> Json | None:
        # The new order comes while they label; one of them waits for it, the others go on.
        turn = next(turns)
        if turn == 16:
            changing.start()
        if turn == 40:
            changing.join()
        return person.next_task(project.number)

    record = Team(people, ask, lambda task: "cat").label(56)
    servings = record.servings
    assert (len(servings), record.errors, record.turned_away) == (56, [], 0)
    assert {serving.version for serving in servings} == {"v1", "v2"}
    assert served_too_often(servings) == 0
    exported = label_studio.admin.get(f"/api/projects/{project.number}/export", exportType="JSON")
    assert [len(task["annotations"]) for task in exported] == [1] * 56
    # What stands before anybody's task is on the screens of the seven others.
    assert max(places(servings, orders)) <= 7


def test_two_people_for_each_image(
    label_studio: LabelStudioServer, people: list[Person], title: str
) -> None:
    project = OrderedProject.make(label_studio, title, 40, maximum_annotations=2)
    order = project.reorder("v1", seed=1)
    team = Team(people[:4], lambda person: person.next_task(project.number), lambda task: "dog")
    record = team.label(24)
    servings = record.servings
    assert (len(servings), record.errors, served_too_often(servings)) == (24, [], 0)
    assert len({(serving.person, serving.task) for serving in servings}) == 24
    # Images that one person has labelled are given to a second one before new ones are begun.
    assert len({serving.task for serving in servings}) <= 12 + 2
    assert max(places(servings, {"v1": order})) <= 3


def test_one_leaves_one_skips_one_postpones(
    label_studio: LabelStudioServer, people: list[Person], title: str
) -> None:
    project = OrderedProject.make(label_studio, title, 12)
    order = project.reorder("v1", seed=1)
    leaver, skipper, postponer, other = people[:4]

    def given(person: Person) -> tuple[int, int]:
        task = person.next_task(project.number)
        assert task is not None
        return place_of(task["id"], order), int(task["id"])

    assert given(leaver)[0] == 0
    place, skipped = given(skipper)
    assert place == 1
    skipper.skip(skipped)
    # A skipped image is the next person's; one that is postponed stays with who postponed it.
    place, postponed = given(postponer)
    assert (place, postponed) == (1, skipped)
    postponer.post(f"/api/tasks/{postponed}/drafts", {"result": [], "was_postponed": True})
    assert [given(person)[0] for person in (other, postponer, skipper)] == [2, 3, 4]
    for person in (other, postponer, skipper):
        person.submit(given(person)[1], label="cat")
    # Whoever left finds their image again.
    assert given(leaver)[0] == 0
    assert [given(person)[0] for person in (other, postponer, skipper)] == [5, 6, 7]


def test_the_other_button_gives_everybody_the_same(
    label_studio: LabelStudioServer, people: list[Person], title: str
) -> None:
    project = OrderedProject.make(label_studio, title, 12)
    order = project.reorder("v1", seed=1)
    shown = [person.next_as_displayed(project.number, project.tab) for person in people[:3]]
    assert [task and place_of(task["id"], order) for task in shown] == [0, 0, 0]
    shown = [person.next_task(project.number) for person in people[3:6]]
    assert [task and place_of(task["id"], order) for task in shown] == [1, 2, 3]


def test_connect_names_the_button_and_what_breaks_the_order(
    label_studio: LabelStudioServer, tiebreak: TiebreakProcesses, project: int
) -> None:
    settings = {
        "maximum_annotations": 2,
        "overlap_cohort_percentage": 50,
        "show_overlap_first": True,
        "annotator_evaluation_enabled": True,
    }
    label_studio.admin.patch(f"/api/projects/{project}/", settings)
    done = tiebreak.run("connect", str(project))
    assert done.returncode == 0, done.stderr
    assert "Press “Label All Tasks” at" in done.stderr
    assert "50% of the images are for 2 people each" in done.stderr
    for name in ("show_overlap_first", "annotator_evaluation_enabled"):
        assert f'PATCH /api/projects/{project} {{"{name}": false}}' in done.stderr


def serving(person: int, task: int, version: str, times: tuple[float, float, float]) -> Serving:
    return Serving(person, task, version, "", 1, *times)


def test_how_places_are_counted() -> None:
    orders = {"v1": {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}, "v2": {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}}
    first = serving(0, 1, "v1", (0, 1, 10))
    second = serving(1, 2, "v1", (0, 2, 5))
    third = serving(1, 3, "v1", (6, 7, 8))
    assert places([first, second, third], orders) == [0, 1, 1]
    again = serving(2, 2, "v1", (6, 7, 9))
    assert served_too_often([first, second, third, again]) == 1
    # Asked while v1 was in force and answered under v2: it stood second in v1, third in v2.
    between = serving(3, 2, "v2", (3, 4, 9))
    assert places([first, between], orders) == [0, 1]
    # Asked when v2 was known to be in force: it stood third in that.
    assert places([first, between, serving(4, 2, "v2", (8, 9, 11))], orders)[2] == 2
