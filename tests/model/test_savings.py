"""Labels to a target, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.savings import Reached, labels_to_reach, mean_curve
from model.simulate import Point

CURVE = [Point(10, 0.5), Point(20, 0.7), Point(40, 0.6), Point(100, 0.9)]


@pytest.mark.parametrize(
    ("target", "labels", "at_most"),
    [
        (0.3, 10, True),
        (0.5, 10, True),
        (0.55, 12.5, False),
        (0.7, 20, False),
        (0.75, 70, False),
        (0.9, 100, False),
    ],
)
def test_between_two_points_it_is_a_straight_line(
    target: float, labels: float, at_most: bool
) -> None:
    found = labels_to_reach(CURVE, target)
    assert found == Reached(pytest.approx(labels), at_most)  # type: ignore[arg-type]


def test_nowhere() -> None:
    assert labels_to_reach(CURVE, 0.91) is None
    assert labels_to_reach([], 0.1) is None


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_it_is_reached_where_a_point_says_so_first(values: list[float], target: float) -> None:
    curve = [Point(10 * i + 10, value) for i, value in enumerate(values)]
    found = labels_to_reach(curve, target)
    first = next((point.labels for point in curve if point.accuracy >= target), None)
    if first is None:
        assert found is None
    else:
        assert found is not None
        assert max(10, first - 10) <= found.labels <= first


def test_means_are_by_hand() -> None:
    found = mean_curve([[Point(5, 0.2), Point(9, 0.5)], [Point(5, 0.4), Point(9, 1.0)]])
    assert found == [Point(5, pytest.approx(0.3)), Point(9, pytest.approx(0.75))]  # type: ignore[arg-type]


@pytest.mark.parametrize("curves", [[], [[Point(1, 0.1)], [Point(2, 0.1)]]])
def test_curves_at_other_budgets_have_no_mean(curves: list[list[Point]]) -> None:
    with pytest.raises(ArgumentError, match="curves have points at"):
        mean_curve(curves)
