"""Labels from annotations: what counts, majorities, ties, and what is outside the config."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.label_config import Control
from backend.labels import (
    Annotation,
    Label,
    labelled_at,
    parse_annotation,
    task_labels,
)

SINGLE = Control("label", "image", "image", ("cat", "dog", "cow"), False)
MULTIPLE = Control("tags", "image", "image", ("a", "b", "c"), True)


def item(control: Control, *choices: str, **fields: object) -> dict[str, object]:
    return {
        "id": "r1",
        "from_name": control.name,
        "to_name": control.to_name,
        "type": "choices",
        "value": {"choices": list(choices)},
    } | fields


def note(number: int, *result: dict[str, object], by: int | None = None, **fields) -> Annotation:
    """An annotation, by default each of another person and one second after the one before."""
    known = {
        "was_cancelled": False,
        "completed_by": number if by is None else by,
        "updated_at": f"2026-01-01T00:00:{number:02}Z",
    } | fields
    return Annotation(id=number, task_id=1, result=list(result), **known)


def single(*said: str, classes: Control = SINGLE) -> Label:
    """Label of a single control when each of ``said`` is one person's choice."""
    notes = [note(n, item(classes, choice)) for n, choice in enumerate(said, 1)]
    return task_labels(notes, [classes])[classes.name]


def multiple(*said: str) -> Label:
    """Label of a multiple control; each of ``said`` has one person's choices, as letters."""
    notes = [note(n, item(MULTIPLE, *choices)) for n, choices in enumerate(said, 1)]
    return task_labels(notes, [MULTIPLE])["tags"]


def test_one_annotation_is_a_label():
    assert single("cat") == Label("label", "agreed", ("cat",), 1, "")


def test_the_majority_wins():
    assert single("dog", "cat", "dog") == Label("label", "agreed", ("dog",), 3, "")
    assert single("dog", "cat", "cow", "dog") == Label("label", "agreed", ("dog",), 4, "")


def test_a_tie_for_the_first_place_is_no_label():
    assert single("dog", "cat") == Label("label", "tied", ("cat", "dog"), 2, '"cat", "dog" tie')
    assert single("dog", "cat", "cow", "cow", "dog").choices == ("dog", "cow")


def test_a_choice_outside_the_config_is_named():
    label = single("wolf", "wolf", "dog")
    assert (label.status, label.choices, label.votes) == ("outside", ("wolf",), 3)
    assert label.detail == '"wolf" not among the choices of the labelling config'
    assert single("wolf", "dog", "dog").status == "agreed"
    assert single("wolf", "dog").status == "tied"


def test_two_choices_on_a_single_control_are_outside():
    (label,) = task_labels([note(1, item(SINGLE, "dog", "cat"))], [SINGLE]).values()
    assert (label.status, label.choices) == ("outside", ("cat", "dog"))
    assert label.detail == '"cat", "dog" on a control that takes one choice'
    good = [note(2, item(SINGLE, "cat")), note(3, item(SINGLE, "cat"))]
    both = task_labels([note(1, item(SINGLE, "dog", "cat")), *good], [SINGLE])
    assert both["label"] == Label("label", "agreed", ("cat",), 3, "")


def test_multiple_decides_each_class_by_majority():
    assert multiple("ca", "a", "ab") == Label("tags", "agreed", ("a",), 3, "")
    assert multiple("ca", "ac", "b") == Label("tags", "agreed", ("a", "c"), 3, "")
    assert multiple("a", "b", "c") == Label("tags", "agreed", (), 3, "")


def test_multiple_half_is_a_tie():
    assert multiple("ab", "a") == Label("tags", "tied", ("b",), 2, '"b" ticked by half of 2')
    assert multiple("ab", "ab").choices == ("a", "b")


def test_multiple_outside_the_config():
    label = multiple("xa", "x", "b")
    assert (label.status, label.choices) == ("outside", ("x",))
    assert label.detail == '"x" not among the choices of the labelling config'
    assert multiple("xa", "a", "a") == Label("tags", "agreed", ("a",), 3, "")


def test_nothing_ticked_counts_as_the_empty_set_for_multiple_only():
    notes = [note(1), note(2, item(MULTIPLE))]
    assert task_labels(notes, [SINGLE, MULTIPLE]) == {"tags": Label("tags", "agreed", (), 2, "")}


def test_a_conditional_control_that_was_hidden_says_nothing():
    hidden = replace(MULTIPLE, conditional=True)
    assert task_labels([note(1)], [hidden]) == {}
    assert task_labels([note(1), note(2, item(hidden, "a"))], [hidden])["tags"].votes == 1


def test_skips_are_no_labels():
    skipped = note(1, item(SINGLE, "cat"), was_cancelled=True)
    assert task_labels([skipped], [SINGLE, MULTIPLE]) == {}


@pytest.mark.parametrize(
    "other",
    [
        {"from_name": "else"},
        {"to_name": "back"},
        {"type": "taxonomy"},
        {"item_index": 0},
        {"value": {"choices": ["cat"], "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}},
        {"value": {"choices": "cat"}},
        {"value": {"choices": [["cat", "tabby"]]}},
        {"value": {"choices": []}},
        {"value": None},
        {"value": []},
    ],
)
def test_other_results_are_left_alone(other):
    assert task_labels([note(1, item(SINGLE, "cat") | other)], [SINGLE]) == {}
    with_good = note(1, item(SINGLE, "dog"), item(SINGLE, "cat", id="r2") | other)
    expected = () if other.get("value") == {"choices": []} else ("dog",)
    found = task_labels([with_good], [SINGLE])
    assert (found["label"].choices if found else ()) == expected


def test_a_result_that_shares_its_id_with_a_region_is_about_that_region():
    box = {"id": "r1", "from_name": "box", "to_name": "image", "type": "rectanglelabels"}
    box["value"] = {"x": 1, "y": 1, "width": 2, "height": 2, "rectanglelabels": ["thing"]}
    assert task_labels([note(1, box, item(SINGLE, "cat"))], [SINGLE]) == {}
    assert task_labels([note(1, box, item(SINGLE, "cat", id="r2"))], [SINGLE])["label"].votes == 1


def test_an_unusable_result_is_not_taken_for_the_empty_set():
    assert task_labels([note(1, item(MULTIPLE, "a", to_name="gone"))], [MULTIPLE]) == {}
    assert task_labels([note(1, item(MULTIPLE, "a", item_index=1))], [MULTIPLE]) == {}


def test_the_last_result_of_one_annotation_wins():
    notes = [note(1, item(SINGLE, "cat"), item(SINGLE, "dog"))]
    assert task_labels(notes, [SINGLE])["label"].choices == ("dog",)


def test_one_person_counts_once_with_the_latest_annotation():
    def later(first: str, second: str) -> tuple[str, ...]:
        notes = [
            note(2, item(SINGLE, "cat"), by=7, updated_at=first),
            note(1, item(SINGLE, "dog"), by=7, updated_at=second),
        ]
        label = task_labels(notes, [SINGLE])["label"]
        assert label.votes == 1
        return label.choices

    assert later("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z") == ("dog",)
    assert later("2026-01-01T00:00:02Z", "2026-01-01T00:00:01Z") == ("cat",)
    # As text, "01Z" sorts behind "01.5Z"; as time it is before.
    assert later("2026-01-01T00:00:01Z", "2026-01-01T00:00:01.500000Z") == ("dog",)
    assert later("2026-01-01T02:00:00+02:00", "2026-01-01T00:30:00Z") == ("dog",)
    assert later("2026-01-01T00:00:01Z", "2026-01-01T00:00:01Z") == ("cat",)
    assert later("2026-01-01T00:00:01Z", "") == ("cat",)


def test_annotations_of_nobody_count_each():
    notes = [note(n, item(SINGLE, "cat"), completed_by=None) for n in (1, 2)]
    assert task_labels(notes, [SINGLE])["label"].votes == 2


# The shapes Label Studio 1.23.2 sends for one annotation.
TASK_API = {
    "id": 541,
    "result": [item(SINGLE, "cat", origin="manual")],
    "completed_by": {"id": 3, "email": "a@example.org", "initials": "a"},
    "was_cancelled": False,
    "created_at": "2026-11-22T23:50:03.417276Z",
    "updated_at": "2026-11-22T23:50:04.417307Z",
    "task": 2037,
    "project": 38,
}
EXPORT = TASK_API | {"completed_by": 3, "prediction": {}, "result_count": 1}


@pytest.mark.parametrize("payload", [TASK_API, EXPORT])
def test_parse_annotation(payload):
    assert parse_annotation(payload) == Annotation(
        id=541,
        task_id=2037,
        result=[item(SINGLE, "cat", origin="manual")],
        was_cancelled=False,
        completed_by=3,
        updated_at="2026-11-22T23:50:04.417307Z",
        created_at="2026-11-22T23:50:03.417276Z",
    )


def test_parse_annotation_of_little():
    assert parse_annotation({}) == Annotation(0, 0, [], False, None, "")
    assert parse_annotation({"id": 4, "result": None}, task_id=9).task_id == 9
    assert parse_annotation({"task": {"id": 5, "data": {}}}).task_id == 5
    assert parse_annotation({"result": [None, "x", {"id": "a"}]}).result == [{"id": "a"}]
    assert parse_annotation({"was_cancelled": True}).was_cancelled
    assert parse_annotation({"created_at": "2026"}).updated_at == "2026"


def test_a_task_is_labelled_when_the_first_annotation_is_made():
    def made(at: str, **more: object) -> Annotation:
        return parse_annotation({"created_at": at, "updated_at": "2026-05-05T00:00:00Z"} | more)

    second, third = made("1970-01-01T00:01:00Z"), made("1970-01-01T02:00:30+01:00")
    assert labelled_at([third, second]) == 60.0
    # A skip is no label, and what has no date says nothing.
    assert labelled_at([made("1970-01-01T00:00:01Z", was_cancelled=True), third]) == 3630.0
    assert labelled_at([made("soon"), made("")]) is None
    assert labelled_at([]) is None


RESULTS = st.lists(
    st.builds(
        item,
        st.sampled_from([SINGLE, MULTIPLE]),
        st.sampled_from(["cat", "dog", "a", "b", "wolf"]),
    ),
    max_size=3,
)
TIMES = st.sampled_from(["", "x", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"])
NOTES = st.lists(
    st.builds(
        Annotation,
        id=st.integers(1, 99),
        task_id=st.just(1),
        result=RESULTS,
        was_cancelled=st.booleans(),
        completed_by=st.none() | st.integers(1, 3),
        updated_at=TIMES,
    ),
    max_size=8,
    unique_by=lambda a: a.id,
)
BOTH = (SINGLE, MULTIPLE)


@given(NOTES.flatmap(lambda notes: st.tuples(st.just(notes), st.permutations(notes))))
def test_the_order_of_annotations_does_not_matter(pair):
    first, second = pair
    assert task_labels(first, BOTH) == task_labels(second, BOTH)


@given(NOTES, RESULTS, st.none() | st.integers(1, 3), TIMES)
def test_a_skip_changes_nothing(notes, result, by, moment):
    skip = Annotation(100, 1, result, True, by, moment)
    assert task_labels([*notes, skip], BOTH) == task_labels(notes, BOTH)


@given(NOTES)
def test_saying_it_again_changes_no_majority(notes):
    """Every annotator doubled: twice the votes, the same label."""
    once = [replace(a, completed_by=None) for a in notes]
    twice = once + [replace(a, id=a.id + 1000) for a in once]
    expected = {
        name: replace(label, votes=2 * label.votes, detail="")
        for name, label in task_labels(once, BOTH).items()
    }
    found = {name: replace(label, detail="") for name, label in task_labels(twice, BOTH).items()}
    assert found == expected


@given(st.lists(st.sampled_from([*SINGLE.classes, "wolf"]), min_size=1, max_size=9))
def test_single_against_counting(said):
    counts = Counter(said)
    best = max(counts.values())
    first = {choice for choice, count in counts.items() if count == best}
    label = single(*said)
    assert set(label.choices) == first
    expected = "tied" if len(first) > 1 else "outside" if first == {"wolf"} else "agreed"
    assert label.status == expected


@given(st.lists(st.sets(st.sampled_from("abcx")), min_size=1, max_size=9))
def test_multiple_against_counting(said):
    counts = {c: sum(c in choices for choices in said) for c in "abcx"}
    most = {c for c in "abcx" if counts[c] > len(said) / 2}
    half = {c for c in "abcx" if counts[c] == len(said) / 2}
    label = multiple(*("".join(choices) for choices in said))
    if "x" in most:
        assert (label.status, set(label.choices)) == ("outside", most)
    elif half:
        assert (label.status, set(label.choices)) == ("tied", half)
    else:
        assert (label.status, set(label.choices)) == ("agreed", most)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "choices", "x", "from_name", "value"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(["id", "value", "type", "item_index"])
ITEMS = st.builds(lambda extra: item(SINGLE, "cat") | extra, st.dictionaries(FIELDS, JSON))
PAYLOADS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("id", "task", "completed_by", "was_cancelled", "updated_at"), JSON)
    | {"result": JSON | st.lists(ITEMS | JSON, max_size=4)},
)


@given(st.lists(PAYLOADS, max_size=4))
def test_any_payload_is_survived(payloads):
    labels = task_labels([parse_annotation(payload) for payload in payloads], BOTH)
    assert all(label.votes >= 1 for label in labels.values())
