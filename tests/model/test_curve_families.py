from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.curve_families import FAMILIES

NOW, FAR = 200.0, 1e40


def drawn(name: str, seed: int = 0, error: float = 0.3, count: int = 50):
    return FAMILIES[name](NOW, np.full(count, error), np.random.default_rng(seed))


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), error=st.floats(1e-6, 1 - 1e-6), now=st.floats(1, 1e6))
def test_all_pass_through_the_error_by_now_and_never_rise(
    name: str, seed: int, error: float, now: float
):
    curves = FAMILIES[name](now, np.full(40, error), np.random.default_rng(seed))
    at = curves(np.geomspace(max(1.0, now / 8), now * 20, 30))
    assert curves(np.array([now])) == pytest.approx(np.full((40, 1), error))
    assert at.shape == (40, 30)
    assert np.isfinite(at).all()
    assert (np.diff(at, axis=1) <= 1e-12).all()
    assert (at >= 0).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_end_is_uniform_below_the_error_by_now(name: str):
    ends = drawn(name, count=4000)(np.array([FAR]))[:, 0] / 0.3
    if name == "inverse-log":
        # Its logarithm is only 92: ln(201) / 92 of what was above the floor is still there.
        ends = (ends - np.log(201) / np.log(FAR)) / (1 - np.log(201) / np.log(FAR))
    # With the smallest exponents a power law has not quite come to its end.
    assert np.quantile(ends, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.03)


@pytest.mark.parametrize(
    ("name", "places"),
    [("power", [100.0, 200, 400, 800]), ("exponential", [100.0, 300, 500, 700])],
)
def test_what_is_above_the_floor_falls_by_the_same_factor(name: str, places: list[float]):
    a, b, c, d = drawn(name)(np.array(places)).T
    floor = (a * c - b * b) / (a + c - 2 * b)
    assert (d - floor) / (c - floor) == pytest.approx((b - floor) / (a - floor), rel=1e-6)


def test_inverse_log_is_linear_in_one_over_the_log():
    a, b, c = drawn("inverse-log")(np.array([9.0, 99, 999])).T
    # 1 / ln 10, 1 / ln 100 and 1 / ln 1000 are as 1, 1/2 and 1/3.
    assert (a - b) / (b - c) == pytest.approx(np.full(50, (1 - 1 / 2) / (1 / 2 - 1 / 3)))


@pytest.mark.parametrize("name", ["hill", "weibull"])
def test_sigmoids_are_powers_of_the_labels_between_top_and_floor(name: str):
    curves = drawn(name)
    top, floor = curves(np.array([1 / FAR, FAR])).T
    between = curves(np.array([100.0, 200, 400])).T
    if name == "hill":
        power = np.log([(top - e) / (e - floor) for e in between])
    else:
        power = np.log([np.log((top - floor) / (e - floor)) for e in between])
    assert power[2] - power[1] == pytest.approx(power[1] - power[0], rel=1e-6)
    assert (top > 0.3).all()
    assert (top <= 1).all()
