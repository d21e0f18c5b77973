from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from model.errors import ArgumentError
from model.learning_curve import (
    CORRELATION,
    DECAY,
    HORIZON,
    JITTER,
    MOST_POINTS,
    WANDER,
    AuditPoint,
    LearningCurve,
    angle,
    covariance,
    fit_learning_curve,
    usable,
)


def points(*counts: tuple[int, int, int]) -> list[AuditPoint]:
    return [AuditPoint(*count) for count in counts]


def by_hand() -> LearningCurve:
    """Three curves at 100, 200 and 400 labels."""
    trend = np.array([[0.5, 0.6, 0.7], [0.6, 0.6, 0.6], [0.7, 0.8, 0.9]])
    now = AuditPoint(100, 60, 100)
    return LearningCurve((now,), np.array([100.0, 200, 400]), trend, trend, fits=True)


def test_labels_needed_by_hand():
    curve = by_hand()
    assert curve.labels_needed(0.6).tolist() == [0, 0, 100]
    assert curve.labels_needed(0.65).tolist() == [0, 300, np.inf]
    assert curve.labels_needed(0.95).tolist() == [np.inf] * 3
    assert curve.now.labels == 100


def test_accuracy_between_two_places_is_linear_in_the_log():
    curve = by_hand()
    assert curve.accuracy().tolist() == [0.5, 0.6, 0.7]
    # 141.42 is halfway from 100 to 200 in the logarithm.
    halfway = curve.accuracy(100 * np.sqrt(2) - 100)
    assert halfway == pytest.approx([0.55, 0.6, 0.75])
    assert curve.accuracy(300).tolist() == pytest.approx([0.7, 0.6, 0.9])


@pytest.mark.parametrize("count", [(0, 0, 0), (5, 3, 2), (5, -1, 2)])
def test_counts_that_cannot_be(count: tuple[int, int, int]):
    with pytest.raises(ArgumentError, match="cannot be"):
        AuditPoint(*count)


def test_which_versions_are_usable():
    assert usable([]) == ()
    found = usable(
        points(
            (20, 15, 20),  # fewer than an eighth of the labels by now
            (400, 20, 30),  # more labels than the last: some were taken away
            (100, 8, 9),  # too few audit labels
            (100, 7, 10),  # the same labels once more, below
            (100, 8, 10),
            (50, 9, 20),
            (200, 15, 20),
        )
    )
    assert found == tuple(points((50, 9, 20), (100, 8, 10), (200, 15, 20)))


def test_of_many_versions_those_evenly_apart_are_kept():
    found = usable([AuditPoint(n, 50, 100) for n in range(500, 4000, 10)])
    assert len(found) <= MOST_POINTS
    assert (found[0].labels, found[-1].labels) == (500, 3990)
    steps = np.diff(np.log([p.labels for p in found]))
    assert steps.max() < 2 * steps.min()


def test_covariance_by_hand():
    found = covariance(points((100, 50, 50), (200, 50, 100)))
    far = np.log(2)
    shared = CORRELATION / (1 + DECAY * far) / 100
    assert found == pytest.approx(
        np.array(
            [
                [1 / 50 + WANDER**2 * far + JITTER**2, shared],
                [shared, 1 / 100 + JITTER**2],
            ]
        )
    )


def test_covariance_is_that_of_counts_on_nested_audit_sets():
    """80% right on the first 50 of 100 images, then on all; right together as the model says."""
    random, p, draws = np.random.default_rng(0), 0.8, 20_000
    r = CORRELATION / (1 + DECAY * np.log(2))
    both = p * p + r * p * (1 - p)
    first = random.random((draws, 100)) < p
    second = random.random((draws, 100)) < np.where(first, both / p, (p - both) / (1 - p))
    before, after = angle(first[:, :50].mean(axis=1)), angle(second.mean(axis=1))
    cov = covariance(points((100, 40, 50), (200, 80, 100)))
    wandered = np.diag([WANDER**2 * np.log(2) + JITTER**2, JITTER**2])
    assert np.cov(before, after) == pytest.approx(cov - wandered, rel=0.1)


counts = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(10, 400)), min_size=1, max_size=40
).map(lambda found: [AuditPoint(n, a // 2, a) for n, a in found])


@settings(deadline=None)
@given(counts)
def test_covariance_is_positive_definite(found: list[AuditPoint]):
    used = usable(found)
    assert np.linalg.eigvalsh(covariance(used)).min() > 0


def test_one_version_leaves_the_level_as_uncertain_as_its_count():
    curve = fit_learning_curve(points((100, 80, 100)))
    middle = angle(np.array([80.375 / 100.75]))[0]
    spread = np.sqrt(1 / 100 + JITTER**2)
    expected = [np.sin((middle + ndtri(q) * spread) / 2) ** 2 for q in (0.1, 0.5, 0.9)]
    assert np.quantile(curve.accuracy(), [0.1, 0.5, 0.9]) == pytest.approx(expected, abs=0.005)
    assert curve.fits


@pytest.mark.parametrize("exponent", [0.3, 0.6])
def test_many_audit_labels_of_a_power_law_give_its_future(exponent: float):
    labels = np.geomspace(200, 1600, 8).round().astype(int)
    truth = 1 - (0.05 + 0.6 * (labels / 100) ** -exponent)
    curve = fit_learning_curve(
        [AuditPoint(int(n), round(20_000 * p), 20_000) for n, p in zip(labels, truth, strict=True)]
    )
    target = 1 - (0.05 + 0.6 * 32**-exponent)
    needed = curve.labels_needed(target)
    low, middle, high = needed[[400, 2000, 3600]]
    assert low < 1600 < high
    assert middle == pytest.approx(1600, rel=0.3)
    assert curve.grid[0] == 1600
    assert curve.grid[-1] == pytest.approx(1600 * HORIZON)


def test_the_same_points_give_the_same_curves():
    found = points((100, 60, 100), (200, 70, 100), (400, 75, 100))
    first, again = (fit_learning_curve(found, seed=3) for _ in range(2))
    assert np.array_equal(first.best, again.best)
    assert not np.array_equal(first.best, fit_learning_curve(found, seed=4).best)
    assert (np.diff(first.best, axis=1) >= 0).all()
    assert (np.diff(first.trend, axis=1) >= -1e-12).all()
    assert (first.best >= first.trend[:, :1] - 1e-12).all()


def test_more_audit_labels_narrow_the_level():
    def width(audited: int) -> float:
        found = [AuditPoint(n, audited * 3 // 4, audited) for n in (100, 200, 400)]
        low, high = np.quantile(fit_learning_curve(found).accuracy(), [0.1, 0.9])
        return float(high - low)

    assert width(50) > width(200) > width(800)


def test_an_accuracy_that_falls_is_no_learning_curve():
    assert not fit_learning_curve(points((100, 180, 200), (200, 120, 200), (400, 60, 200))).fits
    assert fit_learning_curve(points((100, 150, 200), (200, 150, 200), (400, 149, 200))).fits


def test_nothing_to_fit():
    with pytest.raises(ArgumentError, match="none of which is usable"):
        fit_learning_curve(points((100, 5, 9)))
