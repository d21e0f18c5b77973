from __future__ import annotations

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.forecast import Forecast, Outlook, forecast, look_ahead, read_curve
from model.learning_curve import HORIZON, AuditPoint, LearningCurve, fit_learning_curve

TYPICAL = [AuditPoint(50 * 2**i, right, 150) for i, right in enumerate((85, 98, 108, 117, 123))]


def crowd(needs: list[float], labels: int = 100) -> LearningCurve:
    """Curves at 50% that jump to 90% after so many more labels; all of them at least 50% right."""
    steps = sorted({0.0, *(n for n in needs if n < inf)})
    best = np.array([[0.9 if step >= need else 0.5 for step in steps] for need in needs])
    grid = labels + np.array(steps)
    return LearningCurve((AuditPoint(labels, 60, 100),), grid, best, best, fits=True)


def read(*needs: tuple[int, float]) -> Forecast:
    """The forecast for 80% when so many of the curves need so many more labels."""
    return read_curve(crowd([need for count, need in needs for _ in range(count)]), 0.8)


def test_a_range_leaves_out_a_tenth_on_either_side():
    found = read((10, 100), (80, 300), (10, 1500))
    assert (found.outlook, found.low, found.high) == (Outlook.RANGE, 300, 1500)
    found = read((11, 100), (80, 300), (9, 1500))
    assert (found.low, found.high, found.reached) == (100, 300, 0)
    assert found.sentence == "80% takes about 100 to 300 more labels."


def test_a_range_that_begins_by_now_leaves_out_a_fifth_at_the_end():
    found = read((50, 0), (31, 300), (19, 1500))
    assert (found.outlook, found.low, found.high) == (Outlook.RANGE, 0, 300)
    assert found.sentence == "80% may be reached already, or take up to 300 more labels."
    assert read((50, 0), (29, 300), (21, 1500)).high == 1500


def test_a_range_without_end_leaves_out_a_fifth_at_the_beginning():
    found = read((19, 300), (40, 700), (41, inf))
    assert (found.outlook, found.low, found.high) == (Outlook.MORE_THAN, 700, None)
    assert found.sentence == "80% takes more than 700 more labels, and perhaps cannot be had."
    assert read((21, 300), (40, 700), (39, inf)).low == 300


def test_a_range_without_end_that_begins_at_a_few_labels_may_be_reached():
    found = read_curve(crowd([5.0] * 30 + [inf] * 70, labels=40), 0.8)
    assert (found.outlook, found.low, found.high) == (Outlook.MORE_THAN, 0, None)
    assert found.sentence == "80% may be reached already, or perhaps cannot be had."


def test_reached_and_not_in_sight_hold_for_four_fifths():
    found = read((81, 0), (19, inf))
    assert (found.outlook, found.low, found.high) == (Outlook.REACHED, 0, 0)
    assert found.sentence == "80% is reached by now, with 100 labels (81% sure)."
    found = read((20, 300), (80, inf))
    assert (found.outlook, found.low, found.high) == (Outlook.NOT_IN_SIGHT, None, None)
    assert found.sentence == (
        "This model may not get to 80%: by its learning curve, 20 times the 100 labels by now "
        "would not do."
    )


def test_what_may_be_reached_or_never_cannot_be_told():
    found = read((40, 0), (20, 300), (40, inf))
    assert (found.outlook, found.low, found.high) == (Outlook.CANNOT_TELL, 0, None)
    # 80% is 10 points from the middle of the levels, 90%: 1.2816^2 * 0.09 / 0.1^2 are 15 labels.
    assert found.sentence == (
        "Cannot tell yet what 80% takes: 100 audit labels leave its accuracy by now between 50% "
        "and 90%."
    )
    # A low end of 5 labels, with 100 by now, tells nothing either.
    assert read((30, 5), (70, inf)).outlook is Outlook.CANNOT_TELL
    assert read((30, 10), (70, inf)).outlook is Outlook.MORE_THAN


def test_how_many_more_audit_labels_may_tell():
    best = np.linspace(0.7, 0.9, 101)[:, None] + np.zeros(2)
    curve = LearningCurve((AuditPoint(100, 24, 30),), np.array([100.0, 200]), best, best, fits=True)
    # Half are at 80%: 1.2816^2 * 0.16 / 0.02^2 = 657 labels tell 2 points, less 30.
    assert read_curve(curve, 0.8).why_not == (
        "30 audit labels leave its accuracy by now between 72% and 88%; about 630 more may tell"
    )


@pytest.mark.parametrize(
    ("needs", "low", "high"),
    [
        ((7, 41), 0, 50),
        ((99, 101), 90, 110),
        ((342, 517), 340, 520),
        ((1234, 5678), 1200, 5700),
        ((12_345, 98_765), 12_000, 99_000),
    ],
)
def test_numbers_are_rounded_outwards(needs: tuple[int, int], low: int, high: int):
    found = read((50, needs[0]), (50, needs[1]))
    assert (found.low, found.high) == (low, high)


def test_too_little_says_how_much_more():
    def why(*points: AuditPoint) -> str:
        found = forecast(points, [0.9])[0]
        assert found.outlook is Outlook.CANNOT_TELL
        assert (found.low, found.high, found.reached) == (0, None, None)
        return found.sentence

    start = "Cannot tell yet what 90% takes: at least "
    assert why() == start + "30 more audit labels are needed."
    assert why(AuditPoint(40, 0, 9)) == start + "21 more audit labels are needed."
    assert why(AuditPoint(40, 20, 22)) == start + "8 more audit labels are needed."
    assert why(AuditPoint(40, 28, 30)) == start + "2 more versions with new labels are needed."
    two = AuditPoint(40, 20, 22), AuditPoint(80, 30, 35)
    assert why(*two) == start + "1 more version with new labels is needed."
    assert why(*two, AuditPoint(90, 20, 29)) == start + "1 more audit label is needed."


def test_an_accuracy_that_falls_cannot_be_told():
    falling = [AuditPoint(n, right, 200) for n, right in ((100, 180), (200, 120), (400, 60))]
    found = forecast(falling, [0.5])[0]
    assert found.sentence == (
        "Cannot tell yet what 50% takes: its accuracy has not risen with the labels as a learning "
        "curve does."
    )


def test_a_typical_history():
    outlooks = [found.outlook for found in forecast(TYPICAL, [0.6, 0.8, 0.85, 0.99])]
    assert outlooks == [Outlook.REACHED, Outlook.RANGE, Outlook.RANGE, Outlook.NOT_IN_SIGHT]


def test_all_right_reaches_what_it_can():
    points = [AuditPoint(n, 200, 200) for n in (100, 200, 300)]
    found = forecast(points, [0.5, 0.95, 0.9999])
    assert [f.outlook for f in found[:2]] == [Outlook.REACHED] * 2
    assert found[0].sentence == "50% is reached by now, with 300 labels (99% sure)."
    assert found[2].outlook is not Outlook.REACHED


def test_an_accuracy_that_stands_still_does_not_promise_more():
    points = [AuditPoint(n, 800, 1000) for n in (200, 300, 400, 600, 800)]
    reached, far = forecast(points, [0.75, 0.95])
    assert reached.outlook is Outlook.REACHED
    assert far.outlook is Outlook.NOT_IN_SIGHT


def test_a_forecast_is_read_from_the_curve():
    curve = fit_learning_curve(TYPICAL, seed=5)
    assert forecast(TYPICAL, [0.85], seed=5) == [read_curve(curve, 0.85)]


@pytest.mark.parametrize("target", [0.0, 1.0, -0.5, float("nan")])
def test_targets_outside_are_refused(target: float):
    with pytest.raises(ArgumentError, match="targets holds"):
        forecast(TYPICAL, [0.5, target])


versions = st.lists(
    st.tuples(st.integers(1, 3000), st.integers(0, 400), st.floats(0, 1)), max_size=12
)


@settings(deadline=None, max_examples=40)
@given(versions, st.integers(0, 9))
def test_a_higher_target_never_needs_fewer(found: list[tuple[int, int, float]], seed: int):
    points = [AuditPoint(n, round(share * a), a) for n, a, share in found]
    targets = np.linspace(0.01, 0.999, 25)
    told = forecast(points, targets, seed=seed)
    for before, after in pairwise(told):
        assert (inf if before.low is None else before.low) <= (
            inf if after.low is None else after.low
        )
        assert (inf if before.high is None else before.high) <= (
            inf if after.high is None else after.high
        )
    for f in told:
        assert f.sentence.endswith(".")
        if f.low is not None and f.high is not None:
            assert 0 <= f.low <= f.high <= 1.1 * HORIZON * f.labels + 10
        assert (f.why_not == "") == (f.outlook is not Outlook.CANNOT_TELL)


def test_the_curve_behind_a_forecast_is_handed_out_with_it():
    found, curve = look_ahead(TYPICAL, [0.85], seed=3)
    assert curve is not None
    assert found == forecast(TYPICAL, [0.85], seed=3) == [read_curve(curve, 0.85)]
    np.testing.assert_array_equal(curve.best, fit_learning_curve(TYPICAL, seed=3).best)
    falling = [AuditPoint(50 * 2**i, 140 - 30 * i, 150) for i in range(4)]
    for points in (TYPICAL[:2], falling):
        [unknown], none = look_ahead(points, [0.85])
        assert (unknown.outlook, none) == (Outlook.CANNOT_TELL, None)
