"""The bounds and the checks: by hand, term by term, and over all that may come."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc

from model.error_bounds import contradicted, error_bound
from model.errors import ArgumentError


def at_most(errors: int, n: int, share: float) -> float:
    """P(Binomial(n, share) <= errors), term by term."""
    return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(errors + 1))


@pytest.mark.parametrize(("n", "bound"), [(1, 0.95), (10, 0.25887), (59, 0.04950), (149, 0.01991)])
def test_bound_without_an_error(n: int, bound: float) -> None:
    assert error_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert error_bound(0, n) == pytest.approx(bound, abs=1e-5)


@given(st.integers(1, 60), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_bound_is_where_so_few_errors_have_that_chance(
    n: int, data: st.DataObject, confidence: float
) -> None:
    errors = data.draw(st.integers(0, n - 1))
    bound = error_bound(errors, n, confidence)
    assert at_most(errors, n, bound) == pytest.approx(1 - confidence, abs=1e-9)
    assert error_bound(n, n, confidence) == 1


def mean_ratio(errors: int, labels: int, share: float) -> float:
    """The mean likelihood ratio over q in (share, 1), of density 1/sqrt(q), summed up.

    With q = x² the density is even in x.
    """
    x = np.linspace(np.sqrt(share), 1, 200_001)
    q = ((x[1:] + x[:-1]) / 2) ** 2
    ratios = (q / share) ** errors * ((1 - q) / (1 - share)) ** (labels - errors)
    return float(ratios.mean())


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3])
def test_checks_contradict_when_the_mean_ratio_says_so(share: float) -> None:
    for labels in (1, 2, 7, 40, 300):
        ratios = [mean_ratio(errors, labels, share) for errors in range(1, min(labels, 60) + 1)]
        said = [contradicted(errors + 1, labels, share) for errors in range(len(ratios))]
        assert said == [ratio >= 20 for ratio in ratios]
        assert not contradicted(0, labels, share)
    assert not contradicted(0, 0, share)


def test_checks_contradict_by_hand() -> None:
    # Of one label, which is wrong: the mean of q / 0.02, which is (1 - 0.02^1.5) / 3 /
    # (1 - 0.02^0.5) / 0.02 = 19.35, just below 20; of two labels it is 582.
    assert mean_ratio(1, 1, 0.02) == pytest.approx(19.356, abs=0.01)
    assert not contradicted(1, 1, 0.02)
    assert contradicted(2, 2, 0.02)
    assert not contradicted(1, 20, 0.02)
    assert contradicted(9, 100, 0.02)
    assert not contradicted(5, 100, 0.05)


def ever(says: Callable[[int, int], bool], share: float, looks: int = 300) -> float:
    """The chance that a rule of errors and labels ever says so, exactly, of labels one by one."""
    alive, found = np.zeros(looks + 2), 0.0
    alive[0] = 1.0
    for labels in range(1, looks + 1):
        alive[1:] = alive[1:] * (1 - share) + alive[:-1] * share
        alive[0] *= 1 - share
        for errors in range(labels + 1):
            if alive[errors] > 0 and says(errors, labels):
                found += alive[errors]
                alive[errors] = 0
    return found


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
def test_a_promise_that_holds_is_seldom_contradicted_however_often_one_looks(share: float) -> None:
    assert 0.005 < ever(lambda e, n: contradicted(e, n, share), share) <= 0.05


def test_an_ordinary_test_would_err_in_one_of_four_when_looked_at_as_often() -> None:
    # P(Binomial(n, 0.05) >= e) <= 0.05
    assert 0.2 < ever(lambda e, n: e > 0 and betainc(e, n - e + 1, 0.05) <= 0.05, 0.05) < 0.3


def test_counts_that_do_not_fit_are_refused() -> None:
    for errors, labels in ((3, 2), (-1, 2)):
        with pytest.raises(ArgumentError, match="errors"):
            error_bound(errors, labels)
        with pytest.raises(ArgumentError, match="errors"):
            contradicted(errors, labels, 0.02)
    with pytest.raises(ArgumentError, match="confidence"):
        error_bound(1, 2, 1.0)
    with pytest.raises(ArgumentError, match="max_error"):
        contradicted(1, 2, 0.0)
