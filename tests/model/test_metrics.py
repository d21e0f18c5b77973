from __future__ import annotations

from math import log, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.metrics import accuracy, effective_count, exact_match, log_loss, wilson_interval

P = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]]


def test_accuracy_by_hand():
    assert accuracy(P, [0, 1, 2, 1]) == 0.75


def test_the_first_of_equals_counts():
    assert accuracy([[0.5, 0.5]], [0]) == 1
    assert accuracy([[0.5, 0.5]], [1]) == 0


def test_exact_match_by_hand():
    flags = [[1, 0], [1, 1], [0, 0]]
    # Right, right (1/2 counts as yes), and one class wrong.
    assert exact_match([[0.9, 0.1], [0.5, 0.8], [0.2, 0.6]], flags) == pytest.approx(2 / 3)


def test_log_loss_by_hand():
    # 1/2, 1/4 and 1/8: 1, 2 and 3 bits.
    p = [[0.5, 0.5], [0.25, 0.75], [0.125, 0.875]]
    assert log_loss(p, [0, 0, 0]) == pytest.approx(2 * log(2))


def test_log_loss_of_questions_by_hand():
    # -log2 of 1/2, 3/4, 1/4, 1/2
    expected = (1 - log2(0.75) + 2 + 1) / 4 * log(2)
    assert log_loss([[0.5, 0.25], [0.25, 0.5]], [[1, 0], [1, 1]]) == pytest.approx(expected)


def test_log_loss_of_the_impossible_is_finite():
    assert log_loss([[1.0, 0.0]], [1]) == pytest.approx(-log(1e-12))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(correct: int, n: int, low: float, high: float):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_nothing_is_everything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_what_was_seen(seen: tuple[int, int]):
    correct, n = seen
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    mirrored = wilson_interval(n - correct, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    wider = wilson_interval(correct, n, confidence=0.99)
    assert wider[0] <= low
    assert wider[1] >= high


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((3, 2), "correct is 3 of n 2"), ((-1, 2), "correct is -1"), ((1, 2, 1.0), "confidence is")],
)
def test_wilson_interval_refuses(arguments: tuple[float, ...], said: str):
    with pytest.raises(ArgumentError, match=said):
        wilson_interval(*arguments)


def test_rows_of_one_group_count_less_by_hand():
    # One group of two that agree: r = (1 + 2) / (1 + 2), and 2 of 3 rows are in pairs.
    assert effective_count([True, True, False], [7, 7, 9]) == pytest.approx(3 / (1 + 2 / 3))
    # 8 pairs, 2 of which differ, 10 of 16 right: p = 12 / 20, and
    # r = (8 (1 - 0.25 / 0.48) + 2) / 10 = 7 / 12.
    right = [True] * 8 + [False] * 4 + [True, False] * 2
    assert effective_count(right, np.arange(16) // 2) == pytest.approx(16 / (1 + 7 / 12))


def test_rows_alone_and_groups_that_never_agree_count_in_full():
    assert effective_count([True, False, True], [3, 1, 2]) == 3
    assert effective_count([], []) == 0
    # 100 pairs of one right and one wrong: less spread than chance gives, which does not count.
    assert effective_count([True, False] * 100, np.arange(200) // 2) == 200


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=40))
def test_no_fewer_count_than_the_groups_sizes_allow(rows: list[tuple[bool, int]]):
    right, groups = ([row[i] for row in rows] for i in (0, 1))
    n, sizes = len(rows), np.bincount(groups)
    found = effective_count(right, groups)
    assert n**2 / (sizes**2).sum() - 1e-9 <= found <= n
    again = effective_count(right[::-1], [17 - 2 * group for group in groups[::-1]])
    assert again == pytest.approx(found)
    assert effective_count([not value for value in right], groups) == pytest.approx(found)


def test_groups_must_fit_the_rows():
    with pytest.raises(ArgumentError, match=r"groups has shape \(1,\)"):
        effective_count([True, False], [1])


@pytest.mark.parametrize(
    ("p", "targets", "said"),
    [
        (P, [0, 1], r"targets has shape \(2,\)"),
        (P, [0, 1, 2, 3], r"targets\[3\] is 3"),
        (P, [0.0, 1.0, 2.0, 1.0], "dtype float64"),
        ([[np.nan, 1.0]], [0], "is nan"),
        (np.zeros((0, 2)), [], "0 rows"),
    ],
)
@pytest.mark.parametrize("measure", [accuracy, log_loss])
def test_what_does_not_fit_is_refused(measure: object, p: object, targets: object, said: str):
    with pytest.raises(ArgumentError, match=said):
        measure(p, targets)


def test_exact_match_refuses():
    with pytest.raises(ArgumentError, match="targets holds 2"):
        exact_match([[0.5, 0.5]], [[0, 2]])
    with pytest.raises(ArgumentError, match=r"\(1, 2\) is needed"):
        exact_match([[0.5, 0.5]], [[True]])
