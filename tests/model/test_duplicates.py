from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.duplicates import find_leaders
from model.errors import ArgumentError

THRESHOLDS = [0.3, 0.713, 0.9, 0.97, 1.0]


def by_brute_force(rows: np.ndarray, similarity: float) -> list[int]:
    """The leader algorithm, each row against all leaders."""
    rooted = np.sign(rows) * np.sqrt(np.abs(rows.astype(np.float64)))
    lengths = np.sqrt((rooted**2).sum(axis=1, keepdims=True))
    unit = rooted / np.where(lengths > 0, lengths, 1)
    leaders: list[int] = []
    found = []
    for i, row in enumerate(unit):
        near = np.round(unit[leaders] @ row, 9) if leaders else np.zeros(1)
        best = int(near.argmax())
        if leaders and near[best] >= similarity:
            found.append(leaders[best])
        else:
            leaders.append(i)
            found.append(i)
    return found


def pictures_and_copies(n: int, d: int, seed: int) -> np.ndarray:
    """Like embeddings: none negative, all somewhat alike, and a third near another one."""
    generator = np.random.default_rng(seed)
    rows = generator.gamma(0.5, size=(n, d)) + generator.gamma(0.3, size=d)
    for i in generator.choice(np.arange(1, n), n // 3, replace=False):
        rows[i] = rows[generator.integers(0, i)] * generator.uniform(0.6, 1.4, d)
    return rows.astype(np.float16)


def test_worked_by_hand():
    # After the square roots: (1, 0), (0.8, 0.6), (0, 1) and (0.6, 0.8), of length 1.
    rows = np.array([[1, 0], [0.64, 0.36], [0, 1], [0.36, 0.64]])
    found = find_leaders(rows, similarity=0.75)
    assert (found.tolist(), found.dtype) == ([0, 0, 2, 2], np.int64)
    # (0.6, 0.8) is as near as 0.96 to (0.8, 0.6), which leads now.
    assert find_leaders(rows, similarity=0.85).tolist() == [0, 1, 2, 1]
    assert find_leaders(rows[1:], rows[:1], similarity=0.75).tolist() == [0, 2, 2]


def test_groups_do_not_chain():
    # Each is near the next, at an angle of 0.2, and only two of them near the first.
    angles = np.arange(5) * 0.2
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1) ** 2
    assert find_leaders(rows, similarity=float(np.cos(0.41))).tolist() == [0, 0, 0, 3, 3]


rows_of_small_numbers = st.tuples(st.integers(1, 25), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-4, 4).map(float))
)


@settings(deadline=None)
@given(rows_of_small_numbers, st.sampled_from(THRESHOLDS))
def test_as_by_brute_force(rows: np.ndarray, similarity: float):
    assert find_leaders(rows, similarity=similarity).tolist() == by_brute_force(rows, similarity)


@pytest.mark.parametrize(
    ("n", "d", "similarity"), [(1300, 200, 0.9), (1300, 200, 0.97), (9000, 5, 0.995)]
)
def test_as_by_brute_force_over_several_blocks(n: int, d: int, similarity: float):
    rows = pictures_and_copies(n, d, 7)
    found = find_leaders(rows, similarity=similarity)
    assert found.tolist() == by_brute_force(rows, similarity)
    assert 1 < len(np.unique(found)) < n


@settings(deadline=None)
@given(
    rows_of_small_numbers,
    st.lists(st.integers(0, 25), max_size=3),
    st.sampled_from(THRESHOLDS),
)
def test_several_goes_are_as_one(rows: np.ndarray, cuts: list[int], similarity: float):
    whole = find_leaders(rows, similarity=similarity)
    leaders, found = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for part in np.split(np.arange(len(rows)), sorted(min(cut, len(rows)) for cut in cuts)):
        led = find_leaders(rows[part], rows[leaders], similarity=similarity)
        names = np.append(leaders, part)
        found = np.append(found, names[led])
        leaders = np.append(leaders, part[names[led] == part])
    assert found.tolist() == whole.tolist()


def test_copies_have_one_leader():
    row = np.random.default_rng(0).random(1280).astype(np.float16)
    assert find_leaders(np.stack([row] * 700), similarity=1.0).tolist() == [0] * 700
    assert find_leaders(np.stack([row] * 3), row[None]).tolist() == [0, 0, 0]
    # The same direction, whatever the length.
    assert find_leaders(np.stack([row, row * 4]).astype(np.float32)).tolist() == [0, 0]


def test_zeros_are_near_nothing_and_nothing_is_no_row():
    assert find_leaders(np.zeros((3, 4))).tolist() == [0, 1, 2]
    assert find_leaders(np.zeros((0, 4))).shape == (0,)
    assert find_leaders(np.zeros((0, 4)), np.ones((2, 4))).shape == (0,)
    assert find_leaders(np.ones((2, 4), dtype=np.int64)).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [0.0, 1.1, float("nan")])
def test_a_similarity_outside_is_refused(bad: float):
    with pytest.raises(ArgumentError, match="similarity is"):
        find_leaders(np.ones((2, 2)), similarity=bad)


@pytest.mark.parametrize(
    ("rows", "leaders", "said"),
    [
        (np.ones(3), None, r"embeddings has shape \(3,\); \(n, d\) is needed"),
        (np.ones((3, 0)), None, r"embeddings has shape \(3, 0\)"),
        (np.array([[1.0, np.nan]]), None, r"embeddings\[0, 1\] is nan"),
        (np.array([["a"]]), None, "embeddings is not an array of numbers"),
        (np.ones((2, 3)), np.ones((2, 4)), r"leaders has shape \(2, 4\); \(m, 3\) is needed"),
        (np.ones((2, 3)), np.full((1, 3), np.inf), r"leaders\[0, 0\] is inf"),
    ],
)
def test_rows_are_refused(rows: np.ndarray, leaders: np.ndarray | None, said: str):
    with pytest.raises(ArgumentError, match=said):
        find_leaders(rows, leaders)
