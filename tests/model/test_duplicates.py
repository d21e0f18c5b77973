from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.duplicates import find_leaders
from model.errors import ArgumentError


def by_brute_force(rows: np.ndarray, similarity: float) -> list[int]:
    """The leader algorithm, one pair at a time."""
    unit = []
    for row in rows.astype(np.float64):
        rooted = np.sign(row) * np.sqrt(np.abs(row))
        length = np.sqrt((rooted**2).sum())
        unit.append(rooted / length if length > 0 else rooted)
    leaders: list[int] = []
    found = []
    for i, row in enumerate(unit):
        near = [(-round(float(row @ unit[j]), 6), j) for j in leaders]
        least, j = min(near, default=(0.0, -1))
        if j >= 0 and -least >= similarity:
            found.append(j)
        else:
            leaders.append(i)
            found.append(i)
    return found


def test_worked_by_hand():
    # After the square roots: (1, 0), (0.8, 0.6), (0, 1) and (0.6, 0.8), of length 1.
    rows = np.array([[1, 0], [0.64, 0.36], [0, 1], [0.36, 0.64]])
    assert find_leaders(rows, similarity=0.75).tolist() == [0, 0, 2, 2]
    # (0.6, 0.8) is nearer to (0.8, 0.6), which would be its leader if it led.
    assert find_leaders(rows, similarity=0.85).tolist() == [0, 1, 2, 1]
    assert find_leaders(rows[1:], rows[:1], similarity=0.75).tolist() == [0, 2, 2]


rows_of_small_numbers = st.tuples(st.integers(1, 25), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-4, 4).map(float))
)


@settings(deadline=None)
@given(rows_of_small_numbers, st.sampled_from([0.3, 0.713, 0.9, 0.97]))
def test_as_by_brute_force(rows: np.ndarray, similarity: float):
    assert find_leaders(rows, similarity=similarity).tolist() == by_brute_force(rows, similarity)


@pytest.mark.parametrize("bad", [0.0, 1.1, float("nan")])
def test_a_similarity_outside_is_refused(bad: float):
    with pytest.raises(ArgumentError, match="similarity is"):
        find_leaders(np.ones((2, 2)), similarity=bad)
