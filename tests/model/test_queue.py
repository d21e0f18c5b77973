from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.queue import LAST_SCORE, queue_scores, shuffled_score

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
