from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from model.errors import ArgumentError
from model.learning_curve import AuditPoint, LearningCurve
from model.stopping import Agreement, Gain, gain_per_100, kappa, stop_hint

SETTLED = [Agreement(n - 100, n, 0.98) for n in (400, 500, 600)]


def rising(*gains: float, fits: bool = True) -> LearningCurve:
    """At 50% with 400 labels, and so much better with 500: one curve for each gain."""
    trend = np.array([[0.5, 0.5 + gain, 0.9] for gain in gains])
    now = AuditPoint(400, 50, 100)
    return LearningCurve((now,), np.array([400.0, 500, 8000]), trend, trend, fits)


def test_kappa_by_hand():
    # 3 of 4 are equal; by chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2.
    assert kappa([0, 0, 1, 1], [0, 0, 0, 1], 2) == pytest.approx(0.5)
    assert kappa([0, 1], [1, 0], 2) == -1
    assert kappa([2, 2, 2], [2, 2, 2], 3) == 1
    assert kappa([0, 0], [1, 1], 2) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]):
    before, after = zip(*pairs, strict=True)
    found = kappa(before, after, 4)
    if len({*before, *after}) > 1:
        assert found == pytest.approx(cohen_kappa_score(before, after))
    assert -1 <= found <= 1


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [([], [], "before has shape"), ([0, 1], [0], "after has shape"), ([0], [7], "after")],
)
def test_predictions_that_do_not_fit(before: list[int], after: list[int], message: str):
    with pytest.raises(ArgumentError, match=message):
        kappa(before, after, 2)


def test_gain_by_hand():
    gain = gain_per_100(rising(*np.linspace(0, 0.1, 11)))
    assert (gain.low, gain.middle, gain.high) == pytest.approx((0.01, 0.05, 0.09))


def test_settled_and_a_small_gain_hint_to_stop():
    hint = stop_hint(SETTLED, rising(0.001, 0.002, 0.003))
    assert hint.stop is True
    assert hint.sentence == (
        "Labelling more hardly pays: 100 labels hardly change its predictions (agreement 0.980) "
        "and are worth about 0.2 points (0.1 to 0.3)."
    )


def test_either_signal_alone_does_not():
    hint = stop_hint(SETTLED, rising(0.02))
    assert hint.stop is False
    assert hint.sentence == (
        "Go on labelling: 100 labels hardly change its predictions (agreement 0.980) and are "
        "worth about 2.0 points (2.0 to 2.0)."
    )
    unsettled = [*SETTLED[:2], Agreement(500, 600, 0.9)]
    hint = stop_hint(unsettled, rising(0.001))
    assert hint.stop is False
    assert hint.agreement == pytest.approx((0.98 + 0.98 + 0.9) / 3)
    assert "still change its predictions (agreement 0.953)" in hint.sentence


def test_only_the_last_three_far_enough_apart_count():
    early = [Agreement(n - 100, n, 0.5) for n in (200, 300)]
    near = [Agreement(590, 600, 0.5)]
    assert stop_hint(early + SETTLED + near, rising(0.001)).stop is True
    assert stop_hint(SETTLED, rising(0.001), least_agreement=0.99).stop is False
    assert stop_hint(SETTLED, rising(0.006)).stop is False
    assert stop_hint(SETTLED, rising(0.006), least_gain=0.01).stop is True


def test_too_little_to_tell():
    hint = stop_hint(SETTLED[:1], None)
    assert (hint.stop, hint.agreement, hint.gain) == (None, None, None)
    assert hint.sentence == (
        "Cannot tell yet whether to stop: 2 more comparisons of versions 100 labels apart are "
        "needed and no learning curve can be fitted yet."
    )
    assert stop_hint(SETTLED[:2], None).sentence == (
        "Cannot tell yet whether to stop: 1 more comparison of versions 100 labels apart is "
        "needed and no learning curve can be fitted yet."
    )
    hint = stop_hint([], rising(0.001))
    assert hint.stop is None
    assert hint.gain == Gain(0.001, 0.001, 0.001) or hint.gain.middle == pytest.approx(0.001)
    assert stop_hint(SETTLED, rising(0.001, fits=False)).stop is None
