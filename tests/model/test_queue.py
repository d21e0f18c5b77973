from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.queue import (
    LAST_SCORE,
    Stream,
    back_score,
    late_score,
    line_up,
    queue_scores,
    shuffled_score,
    twins,
)

units = st.floats(0.0, 1.0)


def test_the_most_uncertain_comes_first():
    assert queue_scores([[0.0, 0.5, 1.0]]).tolist() == pytest.approx([0.999, 0.4995, 0.0])


def test_the_most_uncertain_control_decides():
    scores = queue_scores([[0.2, 0.9, 0.0], [0.4, 0.1, 0.0]])
    assert scores.tolist() == pytest.approx([0.5994, 0.0999, 0.999])


@given(st.lists(units, min_size=1, max_size=30))
def test_no_order_is_reversed_and_no_difference_lost(values: list[float]):
    u = np.array(values)
    scores = queue_scores([u])
    assert scores.dtype == np.float64
    assert ((scores >= 0) & (scores <= 0.999)).all()
    assert (scores < LAST_SCORE).all()
    higher = u[:, None] > u[None, :]
    clearly = u[:, None] > u[None, :] + 1e-15
    assert (scores[:, None] <= scores[None, :])[higher].all()
    assert (scores[:, None] < scores[None, :])[clearly].all()


@given(st.lists(st.tuples(units, units), min_size=1, max_size=20))
def test_several_controls_take_the_least_score(pairs: list[tuple[float, float]]):
    first, second = np.array(pairs).T
    together = queue_scores([first, second])
    apart = np.minimum(queue_scores([first]), queue_scores([second]))
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "uncertainties is empty"),
        ([[0.1, 0.2], [0.1]], r"uncertainties\[1\] has shape \(1,\)"),
        ([[[0.1]]], r"uncertainties\[0\] has shape \(1, 1\)"),
        ([[0.1, np.nan]], r"row 1 are \[nan\]"),
        ([[0.1], [1.5]], r"row 0 are \[0.1, 1.5\]"),
        ([[-0.1], [0.5]], r"row 0 are \[-0.1, 0.5\]"),
    ],
)
def test_what_is_no_uncertainty_is_refused(bad: list[list[float]], said: str):
    with pytest.raises(ArgumentError, match=said):
        queue_scores(bad)


def test_an_empty_pool_has_an_empty_order():
    assert queue_scores([[]]).shape == (0,)


def test_shuffled_scores_never_change():
    expected = 0.999 * (int(hashlib.sha256(b"7:abc").hexdigest()[:16], 16) >> 11) / 2**53
    assert shuffled_score("abc", 7) == pytest.approx(expected, abs=1e-15)
    assert shuffled_score("abc", 8) != shuffled_score("abc", 7)


def test_shuffled_scores_are_uniform():
    scores = np.sort([shuffled_score(str(task), 0) for task in range(5000)]) / 0.999
    steps = np.arange(1, 5001) / 5000
    # Kolmogorov-Smirnov: 1.63 / sqrt(n) is passed by 99 of 100 uniform samples.
    assert np.abs(scores - steps).max() < 1.63 / np.sqrt(5000)
    assert scores[0] >= 0
    assert scores[-1] <= 1


@given(st.text(max_size=40), st.integers(0, 2**40))
def test_shuffled_scores_lie_in_range(key: str, seed: int):
    assert 0 <= shuffled_score(key, seed) <= 0.999


def _order(scores: np.ndarray) -> list[int]:
    return np.argsort(scores, kind="stable").tolist()


def test_picks_then_the_rest_by_their_own_scores_then_what_adds_nothing():
    own = [0.5, 0.1, 0.9, 0.3, 0.2, 0.0, 0.7]
    behind = [False, False, False, False, True, True, False]
    line = line_up(own, picks=[2, 3], behind=behind)
    assert _order(line.scores) == [2, 3, 1, 0, 6, 5, 4]
    assert line.scores.tolist() == [0.54, 0.36, 0.0, 0.18, 0.9495, 0.9, 0.72]


def test_audit_images_stand_evenly_among_the_others():
    own = np.linspace(0, 0.9, 10)
    places = np.full(10, np.nan)
    places[[1, 7]] = [0.8, 0.2]
    # One in five: the middle of each five, the lower place first.
    line = line_up(own, audit_places=places, pace=0.2)
    assert _order(line.scores) == [0, 2, 7, 3, 4, 5, 6, 1, 8, 9]
    # Eight were served and none of them was an audit image: two are due, and come soon.
    behind_schedule = line_up(own, audit_places=places, served=8, audit_served=0, pace=0.2)
    assert _order(behind_schedule.scores)[:4] == [0, 7, 2, 3]


def test_checks_stand_evenly_among_picks_and_rest():
    own, places, audit = np.linspace(0, 0.9, 10), np.full(10, np.nan), np.full(10, np.nan)
    places[[1, 7, 4]] = [0.8, 0.2, 0.1]
    audit[[4, 9]] = [0.5, 0.6]
    # Task 4 is an audit image first. One in five others is a check, the lower place first, and
    # one in ten of all an audit image: the fifth.
    checks = Stream(places, taken=0, served=0, pace=0.2)
    line = line_up(own, picks=[8, 7], audit_places=audit, checks=checks, pace=0.1)
    assert _order(line.scores) == [8, 0, 7, 2, 4, 3, 5, 6, 1, 9]
    # A check is in no scale by which latecomers are placed.
    assert not {own[7], own[1]} & set(line.queue[1:-1, 0])
    # Three of twelve were checks already, more than one in five: none comes before others do.
    ahead = line_up(own, checks=Stream(places, taken=3, served=12, pace=0.2))
    assert _order(ahead.scores)[:7] == [0, 2, 3, 5, 6, 4, 8]
    # What stands behind stands behind, check or not.
    behind = [False] * 7 + [True] + [False] * 2
    assert _order(line_up(own, checks=checks, behind=behind).scores)[-1] == 7


def test_an_audit_image_is_neither_picked_nor_moved_by_its_own_score():
    places = [np.nan, 0.5, np.nan, np.nan]
    line = line_up([0.9, 0.0, 0.2, 0.1], picks=[1, 0], audit_places=places, pace=0.0)
    assert _order(line.scores) == [0, 3, 2, 1]
    behind = line_up([0.9, 0.0, 0.2, 0.1], picks=[3], behind=[False] * 3 + [True])
    assert _order(behind.scores) == [1, 2, 0, 3]


@given(
    st.lists(st.tuples(st.floats(0, 0.999), st.sampled_from(["queue", "audit", "behind"]))),
    st.integers(0, 30),
    st.just(0.0) | st.floats(0.001, 1),
    st.integers(0, 40),
    st.integers(0, 2**31),
)
def test_every_line_is_one_order(
    tasks: list[tuple[float, str]], wanted: int, pace: float, served: int, seed: int
):
    random = np.random.default_rng(seed)
    own = np.array([score for score, _ in tasks])
    kinds = np.array([kind for _, kind in tasks], dtype=str)
    places = np.where(kinds == "audit", random.random(len(tasks)), np.nan)
    picks = random.permutation(len(tasks))[:wanted]
    audit_served = int(random.integers(served + 1))
    line = line_up(
        own,
        picks=picks,
        audit_places=places,
        behind=kinds == "behind",
        audit_served=audit_served,
        served=served,
        pace=pace,
    )
    scores = line.scores
    assert len(np.unique(scores)) == len(tasks)
    # As Label Studio gives them back.
    assert json.loads(json.dumps(scores.tolist())) == scores.tolist()
    assert len(np.unique(scores.astype(np.float32))) == len(tasks)
    is_behind = kinds == "behind"
    assert ((scores >= 0) & (scores < 0.9))[~is_behind].all()
    assert ((scores >= 0.9) & (scores < 0.999))[is_behind].all()
    order = _order(scores)
    audit = [i for i in order if kinds[i] == "audit"]
    assert audit == sorted(audit, key=lambda i: places[i])
    queue = [i for i in order if kinds[i] == "queue"]
    picked = [i for i in picks if kinds[i] == "queue"]
    assert queue[: len(picked)] == picked
    rest = queue[len(picked) :]
    assert rest == sorted(rest, key=lambda i: (own[i], i))
    assert order[len(order) - is_behind.sum() :] == sorted(
        np.flatnonzero(is_behind), key=lambda i: (own[i], i)
    )


def test_a_million_scores_are_all_different():
    line = line_up(np.zeros(1_000_000))
    assert (np.diff(line.scores) > 0).all()
    assert line.scores[-1] < 0.9


def test_one_that_comes_later_stands_between_its_neighbours():
    own = np.linspace(0.1, 0.9, 9)
    line = line_up(own, picks=[8])
    rest = np.sort(line.scores[:8])
    assert rest[2] < late_score(0.35, line.queue) < rest[3]
    assert late_score(0.3, line.queue) == rest[2]
    # However unsure it is, it does not push in before what was picked.
    assert line.scores[8] <= late_score(0.0, line.queue) <= rest[0]
    assert rest[-1] <= late_score(0.999, line.queue) < 0.9


def test_an_audit_image_that_comes_later_stands_by_its_place():
    places = np.array([0.1, np.nan, 0.5, np.nan, 0.9, np.nan])
    line = line_up(np.full(6, 0.5), audit_places=places, pace=0.5)
    here, there = line.scores[[0, 2]]
    assert here < late_score(0.3, line.audit) < there


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=40), st.floats(0, 0.999))
def test_later_ones_keep_the_order(own: list[float], key: float):
    line = line_up(own)
    late = late_score(key, line.queue)
    assert 0 <= late < 0.9
    scores = line.scores
    assert (scores[np.array(own) < key] <= late).all()
    assert (scores[np.array(own) > key] >= late).all()


def test_of_many_a_few_hundred_keep_the_scale():
    own = np.random.default_rng(0).random(20_000) * 0.999
    line = line_up(own)
    assert len(line.queue) < 600
    keys = np.random.default_rng(1).random(200) * 0.999
    ranks = np.array([(own < key).mean() for key in keys])
    late = np.array([late_score(key, line.queue) for key in keys]) / 0.9
    assert np.abs(late - ranks).max() < 0.01


def test_without_a_scale_the_key_is_the_place():
    assert late_score(0.0, []) == 0
    assert late_score(0.4995, []) == pytest.approx(0.45)
    assert late_score(0.999, []) < 0.9


def test_what_adds_nothing_stands_at_the_back():
    assert back_score(0.0) == 0.9
    assert back_score(0.999) == 0.999 < LAST_SCORE


def test_twins_show_nothing_new():
    a, b, c, d, no = 7, 1, 0, 3, -1
    groups = [(a, no), (b, no), (no, a), (no, no), (b, c), (a, c), (d, no), (no, no)]
    assert twins(groups).tolist() == [False, False, True, False, False, True, False, False]
    assert np.flatnonzero(twins(groups, [d, b])).tolist() == [1, 2, 5, 6]
    assert twins(np.zeros((0, 1))).shape == (0,)
    assert twins(np.zeros((2, 0))).tolist() == [False, False]
    # Two pictures of one thing in the same task are no reason to pass over it.
    assert twins([(a, a), (a, a)]).tolist() == [False, True]


@given(
    st.lists(st.tuples(*[st.integers(-1, 4)] * 2), min_size=1, max_size=12),
    st.frozensets(st.integers(0, 4)),
)
def test_twins_are_those_of_a_walk_along_the_line(
    groups: list[tuple[int, int]], taken: frozenset[int]
):
    seen, expected = set(taken), []
    for pair in groups:
        own = {number for number in pair if number >= 0}
        expected.append(bool(own) and own <= seen)
        seen |= own
    assert twins(groups, sorted(taken)).tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"own": [[0.1]]}, r"own has shape \(1, 1\)"),
        ({"own": [0.1, 1.0]}, r"own\[1\] is 1.0"),
        ({"own": [np.nan]}, r"own\[0\] is nan"),
        ({"own": [0.1, 0.2], "picks": [0, 0]}, "different positions below 2"),
        ({"own": [0.1, 0.2], "picks": [2]}, "different positions below 2"),
        ({"own": [0.1, 0.2], "picks": [-1]}, "different positions below 2"),
        ({"own": [0.1, 0.2], "behind": [True]}, r"behind has shape \(1,\); \(2,\) is needed"),
        ({"own": [0.1, 0.2], "audit_places": [0.1]}, r"audit_places has shape \(1,\)"),
    ],
)
def test_what_cannot_be_lined_up_is_refused(arguments: dict[str, list[float]], said: str):
    own = arguments.pop("own")
    with pytest.raises(ArgumentError, match=said):
        line_up(own, **arguments)
