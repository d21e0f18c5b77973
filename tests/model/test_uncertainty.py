from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.errors import ArgumentError
from model.uncertainty import STRATEGIES, entropy, least_confidence, margin, uncertainty

CERTAIN = [1.0, 0.0, 0.0]
EQUAL = [1 / 3, 1 / 3, 1 / 3]
MIXED = [0.5, 0.3, 0.2]
TIE = [0.5, 0.5, 0.0]

distributions = (
    st.integers(2, 6)
    .flatmap(lambda k: arrays(np.float64, (3, k), elements=st.floats(0.001, 1.0)))
    .map(lambda a: a / a.sum(axis=1, keepdims=True))
)
questions = st.integers(1, 5).flatmap(
    lambda k: arrays(np.float64, (3, k), elements=st.floats(0.0, 1.0))
)


def test_least_confidence_by_hand():
    # (1 - 0.5) * 3 / 2
    assert least_confidence([CERTAIN, EQUAL, MIXED, TIE]) == pytest.approx([0, 1, 0.75, 0.75])


def test_margin_by_hand():
    assert margin([CERTAIN, EQUAL, MIXED, TIE]) == pytest.approx([0, 1, 0.8, 1])


def test_entropy_by_hand():
    # 0.34657 + 0.36119 + 0.32189 = 1.02965 nats of at most ln 3 = 1.09861; ln 2 / ln 3 for the tie
    expected = [0, 1, 0.93723, 0.63093]
    assert entropy([CERTAIN, EQUAL, MIXED, TIE]) == pytest.approx(expected, abs=1e-5)


def test_the_measures_disagree_where_they_should():
    # Margin calls the tie as unsure as can be; entropy does not, for the third class is out.
    assert margin([TIE]) > margin([MIXED])
    assert entropy([TIE]) < entropy([MIXED])


@pytest.mark.parametrize(
    ("strategy", "expected"),
    # 0.9 alone: 2 * 0.1; 1 - 0.8; 0.468996 bits. With a certain 1/2 beside it, the mean with 1.
    [("least-confidence", 0.6), ("margin", 0.6), ("entropy", 0.734498)],
)
def test_several_questions_score_their_mean(strategy: str, expected: float):
    assert uncertainty(strategy, [[0.9, 0.5]], True) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_class_leaves_nothing_unsure(strategy: str):
    assert uncertainty(strategy, [[1.0], [1.0]], False).tolist() == [0, 0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_rows_give_no_scores(strategy: str):
    assert uncertainty(strategy, np.zeros((0, 3)), False).shape == (0,)
    assert uncertainty(strategy, np.zeros((0, 3)), True).shape == (0,)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(p=distributions, seed=st.integers(0, 100))
def test_scores_lie_in_range_and_forget_the_order_of_classes(
    strategy: str, p: np.ndarray, seed: int
):
    scores = STRATEGIES[strategy](p)
    assert scores.dtype == np.float64
    assert ((scores >= 0) & (scores <= 1)).all()
    order = np.random.default_rng(seed).permutation(p.shape[1])
    np.testing.assert_array_equal(STRATEGIES[strategy](p[:, order]), scores)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(p=questions, seed=st.integers(0, 100))
def test_questions_lie_in_range_and_forget_their_order_and_side(
    strategy: str, p: np.ndarray, seed: int
):
    scores = uncertainty(strategy, p, True)
    assert ((scores >= 0) & (scores <= 1)).all()
    order = np.random.default_rng(seed).permutation(p.shape[1])
    np.testing.assert_array_equal(uncertainty(strategy, p[:, order], True), scores)
    np.testing.assert_allclose(uncertainty(strategy, 1 - p, True), scores, atol=1e-12)


@given(p=distributions)
def test_two_classes_agree_with_one_question(p: np.ndarray):
    two = p[:, :2] / p[:, :2].sum(axis=1, keepdims=True)
    for strategy, measure in STRATEGIES.items():
        np.testing.assert_allclose(uncertainty(strategy, two[:, :1], True), measure(two), atol=1e-9)


@given(p=distributions)
def test_margin_equals_brute_force(p: np.ndarray):
    expected = [1 - (sorted(row)[-1] - sorted(row)[-2]) for row in p.tolist()]
    np.testing.assert_allclose(margin(p), expected, atol=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([[np.nan, 1.0]], r"probabilities\[0, 0\] is nan"),
        ([[0.5, 0.5], [np.inf, 0.0]], r"probabilities\[1, 0\] is inf"),
        ([[1.5, -0.5]], r"probabilities\[0, 0\] is 1.5"),
        ([[0.5, 0.2]], r"probabilities\[0\] sums to 0.7"),
        ([0.5, 0.5], r"shape \(2,\)"),
        (np.zeros((2, 0)), "at least one class"),
    ],
)
def test_what_is_no_probability_is_refused(strategy: str, bad: object, said: str):
    with pytest.raises(ArgumentError, match=said):
        STRATEGIES[strategy](bad)


def test_an_unknown_strategy_is_refused_by_name():
    with pytest.raises(ArgumentError, match="'margins'; margin, least-confidence, entropy"):
        uncertainty("margins", [MIXED], False)
