from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.queries.landmarks import draw_landmarks, inclusion_chances

weights_of = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30).map(np.array)


def test_chances_by_hand():
    # Three of 10, 2, 1, 1: in proportion 30/14, more than 1. Of the two others 2, 1, 1 get 1 (2 of
    # 4 is 1), 1/2 and 1/2.
    assert inclusion_chances(np.array([10.0, 2, 1, 1]), 3).tolist() == [1, 1, 0.5, 0.5]


@given(weights_of, st.data())
def test_chances_sum_to_the_size_and_keep_the_order(weights: np.ndarray, data: st.DataObject):
    size = data.draw(st.integers(1, len(weights) - 1))
    chances = inclusion_chances(weights, size)
    assert ((chances > 0) & (chances <= 1)).all()
    assert chances.sum() == pytest.approx(size)
    below = chances < 1
    if below.any():
        ratios = chances[below] / weights[below]
        assert ratios == pytest.approx(np.full(below.sum(), ratios[0]))
        assert weights[~below].min(initial=np.inf) >= weights[below].max()


@given(weights_of, st.integers(1, 30), st.integers(0, 100))
def test_as_many_as_asked_for_are_drawn_none_twice(weights: np.ndarray, most: int, seed: int):
    weights[::5] = 0
    positions, found = draw_landmarks(weights, most, np.random.default_rng(seed))
    weighty = np.count_nonzero(weights)
    assert len(positions) == min(most, weighty) == len(found)
    assert (np.diff(positions) > 0).all()
    assert (weights[positions] > 0).all()
    if weighty <= most:
        np.testing.assert_array_equal(found, weights[positions])


def test_sums_over_the_drawn_are_right_on_average():
    generator = np.random.default_rng(0)
    weights, values = generator.exponential(1, 30), generator.random(30)
    sums = []
    for _ in range(3000):
        positions, found = draw_landmarks(weights, 8, generator)
        sums.append(found @ values[positions])
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - weights @ values) < 4 * error
    assert np.std(sums) < 0.3 * (weights @ values)
