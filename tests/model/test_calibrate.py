from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, softmax

from model.calibrate import expected_calibration_error, fit_temperature, temper_confidence
from model.errors import ArgumentError
from model.metrics import log_loss


def draw_classes(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    places = rng.random((len(probabilities), 1))
    return (probabilities.cumsum(axis=1) < places).sum(axis=1).clip(0, probabilities.shape[1] - 1)


@pytest.mark.parametrize("true_temperature", [0.25, 1.0, 3.0])
def test_a_known_temperature_is_recovered(true_temperature: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2 * true_temperature, (10_000, 4))
    targets = draw_classes(softmax(logits / true_temperature, axis=1), rng)
    found = fit_temperature(logits, targets, False)
    assert found.shape == (1,)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(true_temperature, rel=0.05)


def test_each_class_gets_its_own_temperature():
    rng = np.random.default_rng(1)
    true = np.array([0.5, 1.0, 4.0])
    logits = rng.normal(0, 2, (10_000, 3)) * true
    flags = rng.random(logits.shape) < expit(logits / true)
    found = fit_temperature(logits, flags, True)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, true, rtol=0.08)


@settings(max_examples=60)
@given(
    arrays(np.float64, (12, 3), elements=st.floats(-50, 50)),
    arrays(np.int64, (12,), elements=st.integers(0, 2)),
)
def test_the_loss_never_grows(logits: np.ndarray, targets: np.ndarray):
    temperature = fit_temperature(logits, targets, False).astype(np.float64)
    assert 0.049 < temperature[0] < 20.1
    before = log_loss(softmax(logits, axis=1), targets)
    assert log_loss(softmax(logits / temperature, axis=1), targets) <= before + 1e-6
    flags = targets[:, None] == np.arange(3)
    each = fit_temperature(logits, flags, True).astype(np.float64)
    assert log_loss(expit(logits / each), flags) <= log_loss(expit(logits), flags) + 1e-6


def test_always_right_and_always_wrong_stay_bounded():
    right = fit_temperature([[5.0, 0.0], [0.0, 5.0]], [0, 1], False)
    wrong = fit_temperature([[5.0, 0.0], [0.0, 5.0]], [1, 0], False)
    assert np.exp(-3) <= right[0] < 0.5
    assert wrong[0] == pytest.approx(np.exp(3), rel=0.01)


def test_no_rows_leave_it_at_one():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int), False).tolist() == [1]
    assert fit_temperature(np.zeros((0, 2)), np.zeros((0, 2), dtype=bool), True).tolist() == [1, 1]


def test_temperature_refuses_what_does_not_fit():
    with pytest.raises(ArgumentError, match=r"logits\[0, 1\] is inf"):
        fit_temperature([[0.0, np.inf]], [0], False)
    with pytest.raises(ArgumentError, match=r"targets\[0\] is 2"):
        fit_temperature([[0.0, 1.0]], [2], False)


def test_perfect_answers_are_tempered_to_the_rule_of_succession():
    # Eight rows, all right: the mean confidence may be 9/10, so exp(4 / T) = 9.
    logits = np.array([[4.0, 0.0]] * 8)
    found = temper_confidence(logits, np.array([0.1], dtype=np.float32), False)
    assert found[0] == pytest.approx(4 / np.log(9), rel=1e-3)
    each = temper_confidence(logits, np.array([0.1, 0.1], dtype=np.float32), True)
    # A logit of 0 has confidence 1/2 at every temperature.
    assert each == pytest.approx([4 / np.log(9), 0.1], rel=1e-3)


def test_modest_confidence_is_left_alone():
    modest = np.array([[0.5, 0.0]] * 8)
    assert temper_confidence(modest, np.ones(1, dtype=np.float32), False).tolist() == [1]
    nothing = temper_confidence(np.zeros((0, 3)), np.ones(1, dtype=np.float32), False)
    assert nothing.tolist() == [1]


def test_calibration_error_by_hand():
    # 15 bins of 1/15. Two at 0.9 (one right): |1/2 - 0.9| = 0.4. Two at 0.6 (both right): 0.4.
    p = [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]]
    assert expected_calibration_error(p, [0, 0, 0, 0]) == pytest.approx(0.4)
    # One bin for all four: mean confidence 0.75, three of four right.
    assert expected_calibration_error(p, [0, 0, 0, 0], bins=1) == pytest.approx(0.0)


def test_a_bin_edge_belongs_to_the_bin_below():
    # With 2 bins, 0.5 is in (0, 0.5] with no other row: |0 - 0.5| / 2 + |1 - 0.9| / 2.
    p = [[0.5, 0.5], [0.9, 0.1]]
    assert expected_calibration_error(p, [1, 0], bins=2) == pytest.approx(0.3)


def test_calibration_error_of_questions_by_hand():
    # 0.2 twice with one yes: |0.5 - 0.2|, half of the cases. 0.8 twice with two: |1 - 0.8|.
    p, flags = [[0.2, 0.8], [0.2, 0.8]], [[True, True], [False, True]]
    assert expected_calibration_error(p, flags) == pytest.approx(0.25)


def test_calibration_error_equals_brute_force():
    rng = np.random.default_rng(3)
    p = softmax(rng.normal(0, 2, (400, 3)), axis=1)
    targets = rng.integers(0, 3, 400)
    expected = 0.0
    for b in range(15):
        inside = (p.max(axis=1) > b / 15) & (p.max(axis=1) <= (b + 1) / 15)
        if inside.any():
            right = (p[inside].argmax(axis=1) == targets[inside]).mean()
            expected += inside.mean() * abs(right - p[inside].max(axis=1).mean())
    assert expected_calibration_error(p, targets) == pytest.approx(expected)


def test_calibration_error_refuses():
    with pytest.raises(ArgumentError, match="bins is 0"):
        expected_calibration_error([[1.0, 0.0]], [0], bins=0)
    with pytest.raises(ArgumentError, match="0 rows"):
        expected_calibration_error(np.zeros((0, 2)), [])
