"""Subsets and splits keep the mix of classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.errors import ArgumentError
from model.splits import stratified_split, stratified_subset

TARGETS = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(
    lambda values: np.array(values, dtype=np.int64)
)
SEEDS = st.integers(0, 2**32 - 1)


def subset(targets: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    return stratified_subset(targets, size, np.random.default_rng(seed))


@given(targets=TARGETS, size=st.integers(1, 80), seed=SEEDS)
def test_a_subset_has_its_size_and_every_class_that_fits(
    targets: NDArray[np.int64], size: int, seed: int
) -> None:
    taken = subset(targets, size, seed)
    assert len(taken) == min(size, len(targets))
    assert (np.diff(taken) > 0).all()
    classes = np.unique(targets)
    assert len(np.unique(targets[taken])) >= min(size, len(classes))


@given(targets=TARGETS, size=st.integers(1, 80), more=st.integers(0, 20), seed=SEEDS)
def test_a_smaller_subset_is_part_of_a_larger_one(
    targets: NDArray[np.int64], size: int, more: int, seed: int
) -> None:
    assert set(subset(targets, size, seed)) <= set(subset(targets, size + more, seed))


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=SEEDS, data=st.data())
def test_a_subset_has_the_shares_of_the_whole(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    targets = np.repeat(np.arange(len(sizes)), sizes)
    size = data.draw(st.integers(len(sizes), sum(sizes)))
    counts = np.bincount(targets[subset(targets, size, seed)], minlength=len(sizes))
    for count, wanted in zip(counts, np.array(sizes) * size / sum(sizes), strict=True):
        # One row more or less by rounding, and as many again as classes that got their one row.
        assert abs(count - wanted) <= len(sizes)
    assert (counts >= 1).all()


def test_shares_by_hand() -> None:
    targets = np.repeat([0, 1, 2], [60, 30, 10])
    for size, wanted in ((3, [1, 1, 1]), (10, [6, 3, 1]), (20, [12, 6, 2]), (50, [30, 15, 5])):
        assert np.bincount(targets[subset(targets, size, 3)]).tolist() == wanted


def test_the_seed_decides() -> None:
    targets = np.repeat(np.arange(4), 50)
    assert subset(targets, 20, 1).tolist() == subset(targets, 20, 1).tolist()
    assert subset(targets, 20, 1).tolist() != subset(targets, 20, 2).tolist()


def test_a_subset_of_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="size=0; 1 or more is allowed"):
        subset(np.zeros(3, dtype=np.int64), 0, 0)


@given(targets=TARGETS, share=st.floats(0, 1), seed=SEEDS)
def test_a_split_has_every_row_once_and_keeps_every_class(
    targets: NDArray[np.int64], share: float, seed: int
) -> None:
    kept, held = stratified_split(targets, share, np.random.default_rng(seed))
    assert sorted([*kept, *held]) == list(range(len(targets)))
    for name, count in zip(*np.unique(targets, return_counts=True), strict=True):
        held_of_class = int((targets[held] == name).sum())
        if count == 1:
            assert held_of_class == 0
        else:
            assert held_of_class == min(max(round(share * count), 1), count - 1)


def test_a_share_outside_is_refused() -> None:
    with pytest.raises(ArgumentError, match="held_share"):
        stratified_split(np.zeros(3, dtype=np.int64), 1.5, np.random.default_rng(0))
