from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from model.automation_bias import difference_interval, differing, exact_interval, swayed
from model.error_bounds import error_bound
from model.errors import ArgumentError

counts = st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_exact_intervals_as_published(count: int, n: int, low: float, high: float) -> None:
    assert exact_interval(count, n) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


@pytest.mark.parametrize(
    ("counts_", "low", "high"),
    [
        # Newcombe, Interval estimation for the difference (1998), table II, method 10.
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0000),
        ((10, 10, 0, 10), 0.6075, 1.0000),
    ],
)
def test_differences_as_published(
    counts_: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert difference_interval(*counts_) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_each_end_leaves_half_of_the_rest(pair: tuple[int, int], confidence: float) -> None:
    count, n = pair
    low, high = exact_interval(count, n, confidence)
    half = (1 - confidence) / 2
    assert (low == 0) == (count == 0)
    assert (high == 1) == (count == n)
    if count > 0:
        assert binom.sf(count - 1, n, low) == pytest.approx(half, abs=1e-8)
    if count < n:
        assert binom.cdf(count, n, high) == pytest.approx(half, abs=1e-8)
        assert high == error_bound(count, n, 1 - half)


@given(counts, counts)
def test_the_verdict_is_that_of_the_interval(
    ticked: tuple[int, int], blind: tuple[int, int]
) -> None:
    found = swayed(*ticked, *blind)
    assert (found.ticked, found.blind) == (differing(*ticked), differing(*blind))
    if not (ticked[1] and blind[1]):
        assert (found.difference, found.low, found.high) == (None, None, None)
        assert found.verdict == "cannot tell yet"
        return
    assert found.difference is not None
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low <= found.difference + 1e-12
    assert found.difference - 1e-12 <= found.high <= 1
    assert found.difference == pytest.approx(blind[0] / blind[1] - ticked[0] / ticked[1])
    assert (found.verdict == "follows") == (found.low > 0)
    assert (found.verdict == "opposes") == (found.high < 0)
    # Seen from the other side, everything turns around.
    other = swayed(*blind, *ticked)
    assert (other.low, other.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_verdicts_by_hand() -> None:
    # 5% of 200 are changed, 25% of 40 differ blind: 20 points more.
    found = swayed(10, 200, 10, 40)
    assert found.verdict == "follows"
    assert found.difference == pytest.approx(0.2)
    assert swayed(50, 200, 1, 60).verdict == "opposes"
    assert swayed(10, 200, 3, 40).verdict == "no difference seen"
    assert swayed(10, 200, 0, 0).verdict == "cannot tell yet"
    assert differing(0, 0).value is None


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match="both must be above 0"):
        difference_interval(0, 0, 1, 2)
    with pytest.raises(ArgumentError):
        exact_interval(3, 2)
    with pytest.raises(ArgumentError):
        swayed(3, 2, 0, 1)
