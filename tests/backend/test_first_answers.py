"""First answers against what stood when they were begun: every case by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from backend.auto_marks import marked
from backend.first_answers import (
    CHANGED,
    NOTHING,
    REPLACED,
    SLACK_SECONDS,
    _possible,
    write_first_answers,
)
from backend.label_config import parse_label_config
from backend.labels import Annotation
from backend.offers import begin_sending
from backend.predictions import Offer, Prediction
from backend.store import Store
from backend.tables import FirstAnswer, Project, Serving
from backend.task_rows import remove_tasks
from backend.withholding import AUDIT, BLIND, TICKED

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices>
<Choices name="tags" toName="image" choice="multiple"><Choice value="wet"/><Choice value="old"/>
</Choices></View>"""
CONTROLS = parse_label_config(CONFIG).controls
NOON = 1_790_000_000.0
CAT, DOG = ("cat",), ("dog",)


class Record:
    """A project whose orders were served and sent at times that a test names, after noon."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.write() as session:
            session.add(Project(id=1, title="T", label_config=CONFIG, connected_at=0.0))

    def serve(self, version: int, at: float) -> None:
        moment = {"begun_at": NOON + at - 1, "served_at": NOON + at}
        with self.store.write() as session:
            session.add(Serving(project_id=1, version=version, number=0, **moment))

    def send(
        self,
        version: int,
        at: float,
        offers: Mapping[int, Mapping[str, Offer]],
        *,
        share: float = 0.1,
        seen: bool = True,
    ) -> None:
        predictions = [(task, Prediction(0.5, [], each)) for task, each in offers.items()]
        with self.store.write() as session:
            row = begin_sending(session, (1, version, 0), predictions, share)
            assert row is not None
            row.begun_at = NOON + at - 1
            row.sent_at = NOON + at if seen else None

    def look(self, *annotations: Annotation) -> None:
        listed: dict[int, list[Annotation]] = {}
        for annotation in annotations:
            listed.setdefault(annotation.task_id, []).append(annotation)
        with self.store.write() as session:
            write_first_answers(session, 1, CONTROLS, listed)

    def rows(self, control: str = "label") -> dict[tuple[int, int], FirstAnswer]:
        """Task and annotator → the row."""
        with self.store.read() as session:
            found = session.scalars(select(FirstAnswer).where(FirstAnswer.control == control))
            return {(row.task_id, row.annotator): row for row in found}

    def states(self, control: str = "label") -> dict[tuple[int, int], tuple[str, bool | None]]:
        return {key: (row.state, row.differs) for key, row in self.rows(control).items()}


@pytest.fixture
def record(store: Store) -> Record:
    return Record(store)


def label(state: str, *choices: str) -> dict[str, Offer]:
    return {"label": Offer(state, choices)}


def answer(
    task: int,
    at: float,
    *choices: str,
    by: int | None = 1,
    seconds: float | None = 10.0,
    updated: float | None = None,
    skipped: bool = False,
    number: int | None = None,
    tags: tuple[str, ...] | None = None,
) -> Annotation:
    """An annotation that is submitted so many seconds after noon."""
    said = {"label": choices, **({} if tags is None else {"tags": tags})}
    result = [
        {"id": name, "from_name": name, "to_name": "image", "type": "choices"}
        | {"value": {"choices": list(ticked)}}
        for name, ticked in said.items()
        if ticked
    ]

    def moment(seconds: float) -> str:
        return datetime.fromtimestamp(NOON + seconds, UTC).isoformat()

    updated_at = moment(at + 0.3 if updated is None else updated)
    number = number or 1000 * task + (by or 0)
    return Annotation(number, task, result, skipped, by, updated_at, moment(at), seconds)


def test_ticked_blind_and_audit_answers(record: Record) -> None:
    record.send(
        1,
        0,
        {1: label(TICKED, "cat"), 2: label(TICKED, "cat"), 3: label(BLIND, "cat")}
        | {4: label(BLIND, "cat"), 5: label(AUDIT, "dog")},
    )
    record.serve(1, 1)
    record.look(
        *(
            answer(task, 100, *said)
            for task, said in {1: CAT, 2: DOG, 3: DOG, 4: CAT, 5: CAT}.items()
        )
    )
    assert record.states() == {
        (1, 1): (TICKED, False),
        (2, 1): (TICKED, True),
        (3, 1): (BLIND, True),
        (4, 1): (BLIND, False),
        (5, 1): (AUDIT, True),
    }
    row = record.rows()[3, 1]
    assert (row.said, row.given, row.version, row.blind_share) == (["cat"], ["dog"], 1, 0.1)
    assert (row.annotation_id, row.answered_at) == (3001, NOON + 100)


def test_what_stood_when_the_task_was_opened_counts(record: Record) -> None:
    for version, at, choice in ((1, 0, "cat"), (2, 1000, "dog")):
        record.send(version, at, {task: label(TICKED, choice) for task in (1, 2, 3, 4)})
        record.serve(version, at + 1)
    record.look(
        # Opened long before v2 and submitted after it; opened after it; and just around it.
        answer(1, 1100, "dog", seconds=500),
        answer(2, 1100, "dog", seconds=20),
        answer(3, 1010, "dog", seconds=7),
        # Opened before anything was there.
        answer(4, 5, "dog", seconds=600),
    )
    assert record.states() == {
        (1, 1): (TICKED, True),
        (2, 1): (TICKED, False),
        (3, 1): (REPLACED, None),
        (4, 1): (NOTHING, None),
    }
    assert [record.rows()[task, 1].version for task in (1, 2)] == [1, 2]


def test_a_new_version_that_says_the_same_changes_nothing(record: Record) -> None:
    for version, at in ((1, 0), (2, 1000)):
        record.send(version, at, {1: label(BLIND, "cat")})
        record.serve(version, at + 1)
    record.look(answer(1, 1001, "dog", seconds=0.5))
    assert record.states() == {(1, 1): (BLIND, True)}


def test_label_studio_shows_what_it_goes_by(record: Record) -> None:
    record.send(1, 0, {1: label(TICKED, "cat"), 2: label(TICKED, "cat"), 3: label(TICKED, "cat")})
    record.serve(1, 1)
    # v2 is there for a while before Label Studio is told to go by it, and not yet for task 2.
    record.send(2, 500, {1: label(TICKED, "dog")})
    record.serve(2, 1000)
    record.serve(1, 2000)
    record.look(
        answer(1, 700, "cat"),
        answer(1, 1500, "cat", by=2),
        answer(2, 1500, "cat"),
        answer(3, 2500, "cat"),
    )
    assert record.states() == {
        (1, 1): (TICKED, False),
        (1, 2): (TICKED, True),
        (2, 1): (NOTHING, None),
        (3, 1): (TICKED, False),
    }


def test_a_prediction_that_was_replaced_in_its_order(record: Record) -> None:
    record.send(1, 0, {1: label(TICKED, "cat")}, share=0.0)
    record.serve(1, 1)
    record.send(1, 1000, {1: label(BLIND, "cat")}, share=0.3)
    record.look(answer(1, 900, "dog"), answer(1, 1012, "dog", by=2), answer(1, 1100, "dog", by=3))
    assert record.states() == {
        (1, 1): (TICKED, True),
        (1, 2): (REPLACED, None),
        (1, 3): (BLIND, True),
    }
    assert [record.rows()[1, who].blind_share for who in (1, 3)] == [0.0, 0.3]


def test_a_push_that_was_not_seen_to_end_leaves_it_open(record: Record) -> None:
    record.send(1, 0, {1: label(TICKED, "cat")})
    record.serve(1, 1)
    record.send(1, 1000, {1: label(BLIND, "cat")}, seen=False)
    record.look(answer(1, 5000, "dog"))
    assert record.states() == {(1, 1): (REPLACED, None)}
    record.send(1, 6000, {1: label(BLIND, "cat")})
    record.look(answer(1, 7000, "dog", by=2))
    assert record.states()[1, 2] == (BLIND, True)


def test_the_first_answer_of_each_annotator_stays(record: Record) -> None:
    record.send(1, 0, {1: label(TICKED, "cat")})
    record.serve(1, 1)
    first = answer(1, 100, "dog")
    record.look(first)
    # It is changed, another is made, somebody else comes, the first is deleted.
    record.look(answer(1, 100, "cat", updated=900), answer(1, 200, "cat", by=2))
    record.look(answer(1, 300, "cat", number=77), answer(1, 200, "cat", by=2))
    record.look()
    assert record.states() == {(1, 1): (TICKED, True), (1, 2): (TICKED, False)}
    assert record.rows()[1, 1].annotation_id == first.id
    with record.store.write() as session:
        remove_tasks(session, 1, {1})
    assert record.states() == {}


def test_of_several_the_earliest_counts_and_skips_are_none(record: Record) -> None:
    record.send(1, 0, {1: label(TICKED, "cat"), 2: label(TICKED, "cat"), 3: label(TICKED, "cat")})
    record.serve(1, 1)
    record.look(
        answer(1, 300, "cat", number=1),
        answer(1, 200, "dog", number=2),
        answer(2, 100, skipped=True, number=3),
        answer(2, 400, "cat", number=4),
        answer(3, 100, skipped=True, number=5),
    )
    assert record.states() == {(1, 1): (TICKED, True), (2, 1): (TICKED, False)}


def test_what_nobody_can_tell_is_left_out(record: Record) -> None:
    record.send(1, 0, {task: label(TICKED, "cat") for task in (1, 2, 3, 4)})
    record.serve(1, 1)
    own = answer(2, 100, "cat")
    accepted = Annotation(
        9, 2, marked(2, 1, own.result), False, 1, own.updated_at, own.created_at, None
    )
    record.look(
        answer(1, 100, "dog", updated=400),  # changed before it was seen
        accepted,
        answer(3, 100, "dog", by=None),
        answer(5, 100, "dog"),  # never predicted
    )
    assert record.states() == {(1, 1): (CHANGED, None), (5, 1): (NOTHING, None)}
    # A person makes the accepted answer their own: when they opened it is not known.
    record.look(answer(2, 100, "dog", updated=4000))
    assert record.states()[2, 1] == (CHANGED, None)


def test_answers_of_before_tiebreak(record: Record) -> None:
    record.look(answer(1, 100, "cat"), answer(2, 100))
    record.send(1, 1000, {1: label(TICKED, "cat")})
    record.serve(1, 1001)
    record.look(answer(1, 100, "cat", updated=3000), answer(2, 100))
    assert record.states() == {(1, 1): (NOTHING, None)}
    # One that answers nothing of the first control.
    assert record.states("tags")[2, 1] == (NOTHING, None)


def test_several_choices_differ_as_a_whole(record: Record) -> None:
    offers = {"label": Offer(TICKED, ("cat",)), "tags": Offer(BLIND, ("wet", "old"))}
    none = {"label": Offer(TICKED, ("cat",)), "tags": Offer(TICKED, ())}
    record.send(1, 0, {1: offers, 2: offers, 3: offers, 4: none})
    record.serve(1, 1)
    record.look(
        answer(1, 100, "cat", tags=("old", "wet")),
        answer(2, 100, "cat", tags=("old",)),
        answer(3, 100, "cat", tags=()),
        answer(4, 100, "cat", tags=("old",)),
    )
    assert record.states("tags") == {
        (1, 1): (BLIND, False),
        (2, 1): (BLIND, True),
        (3, 1): (BLIND, True),
        (4, 1): (NOTHING, None),  # where nothing would be ticked, nothing can be followed
    }
    assert set(record.states().values()) == {(TICKED, False)}


moments = st.lists(st.integers(0, 60), min_size=1, max_size=6).map(sorted)


@given(moments, st.lists(st.integers(0, 8) | st.none(), min_size=6, max_size=6), st.integers(0, 80))
def test_what_may_have_been_in_force(
    begun: list[int], lasted: list[int | None], moment: int
) -> None:
    items = [
        (float(start), None if length is None else float(start + length))
        for start, length in zip(begun, lasted, strict=False)
    ]
    # Instant by instant: an item may be in force from its begin on until a later one is done.
    first, last = moment - SLACK_SECONDS, moment + SLACK_SECONDS
    found = _possible(items, first, last, lambda item: item)
    done = [n for n, (_, end) in enumerate(items) if end is not None and end <= first]
    settled = done[-1] if done else -1
    expected = [item for item in items[settled + 1 :] if item[0] <= last]
    assert found[0] == (items[settled] if done else None)
    assert found[1:] == expected
