from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.agreement import krippendorff_alpha, median_interval
from model.errors import ArgumentError


def by_pairs(units: list[list[str]]) -> float:
    """Alpha from the definition, pair by pair."""
    units = [unit for unit in units if len(unit) > 1]
    everything = [vote for unit in units for vote in unit]
    n = len(everything)
    observed = sum(
        (a != b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2)
    )
    expected = sum(a != b for a, b in itertools.permutations(everything, 2)) / (n - 1)
    return 1 - observed / expected


def test_alpha_by_hand() -> None:
    # Twenty images, two people: 8 times cat, 8 times dog, 4 times one of each. Of 40 votes 20 are
    # cat: D_e = 2 * 20 * 20 / 39, D_o = 8, so alpha = 1 - 8 * 39 / 800 = 0.61.
    votes = [["cat", "cat"]] * 8 + [["dog", "dog"]] * 8 + [["cat", "dog"]] * 4
    found = krippendorff_alpha([*votes, ["cat"], []])
    assert found.alpha == pytest.approx(0.61)
    assert found.same == pytest.approx(0.8)
    assert found.images == 20
    assert found.low is not None
    assert found.high is not None
    assert 0.2 < found.low < 0.5
    assert 0.75 < found.high < 1
    assert krippendorff_alpha(votes) == found


def test_people_who_always_agree_or_guess() -> None:
    whole = krippendorff_alpha([["cat"] * 3, ["dog"] * 2] * 15)
    assert (whole.alpha, whole.low, whole.high, whole.same) == (1, 1, 1, 1)
    random = np.random.default_rng(0)
    guessed = krippendorff_alpha(random.integers(0, 3, (300, 2)).tolist())
    assert guessed.alpha == pytest.approx(0, abs=0.1)
    assert guessed.low is not None
    assert guessed.high is not None
    assert guessed.low < 0 < guessed.high


def test_what_cannot_be_told() -> None:
    few = krippendorff_alpha([["cat", "dog"]] * 19)
    assert (few.alpha, few.low, few.high, few.images, few.same) == (None, None, None, 19, 0)
    one_class = krippendorff_alpha([["cat", "cat"]] * 50)
    assert (one_class.alpha, one_class.same) == (None, 1)
    assert krippendorff_alpha([]).same is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=4), min_size=20, max_size=30))
def test_alpha_is_that_of_the_definition(units: list[list[str]]) -> None:
    # One disagreement at least, and images that do not count.
    units = [*units, ["a", "b"], ["c"], []]
    assert krippendorff_alpha(units).alpha == pytest.approx(by_pairs(units))


@pytest.mark.parametrize(
    ("n", "low", "high"),
    # P(binomial(6, 1/2) <= 0) = 1.6%; of 9, <= 1: 2.0%; of 20, <= 5: 2.1%, <= 6: 5.8%.
    [(5, None, None), (6, 1, 6), (9, 2, 8), (20, 6, 15)],
)
def test_the_interval_of_a_median(n: int, low: int | None, high: int | None) -> None:
    found = median_interval(np.arange(n, 0, -1))
    assert (found.value, found.low, found.high, found.n) == ((n + 1) / 2, low, high, n)


def test_a_median_of_nothing() -> None:
    found = median_interval([])
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
    with pytest.raises(ArgumentError, match="values has shape"):
        median_interval([1.0, np.nan])
