from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from model.crossfit import DEFAULT_PENALTY, PENALTIES, calibrated, cross_fit
from model.folds import class_folds
from model.head import power_normalise
from model.metrics import log_loss


def problem(n: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    rows = rng.normal(0, 1, (3, 30))[targets] + spread * rng.normal(0, 1, (n, 30))
    folds = class_folds(targets, 5, rng)
    return power_normalise(rows).astype(np.float64), targets, folds


def test_noise_is_held_down_and_clear_pictures_are_not():
    rows, targets, folds = problem(90, spread=30)
    noise = cross_fit(rows, np.eye(3, dtype=bool)[targets], folds, multiple=False)
    rows, targets, folds = problem(45, spread=1.0)
    clear = cross_fit(rows, np.eye(3, dtype=bool)[targets], folds, multiple=False)
    assert noise.penalty == PENALTIES[0]
    assert clear.penalty < 0.1


def test_the_models_out_of_fold_have_not_seen_their_rows():
    rows, targets, folds = problem(60, spread=2)
    flags = np.eye(3, dtype=bool)[targets]
    whole = cross_fit(rows, flags, folds, multiple=False)
    held = folds == 2
    changed = flags.copy()
    changed[held] = np.roll(flags[held], 1, axis=1)
    other = cross_fit(rows, changed, folds, multiple=False)
    assert other.penalty == whole.penalty
    gap = other.out_of_fold[held] - whole.out_of_fold[held]
    # The same but for where the common search stopped.
    assert np.abs(gap - gap.mean(axis=1, keepdims=True)).max() < 0.1
    assert whole.out_of_fold is not None
    p = calibrated(whole.out_of_fold, whole.temperature, False)
    assert log_loss(p, targets) < np.log(3)


def test_without_folds_the_penalty_is_fixed_and_nothing_is_promised():
    rows, targets, _ = problem(6, spread=1)
    found = cross_fit(rows, np.eye(3, dtype=bool)[targets], None, multiple=False)
    assert (found.penalty, found.out_of_fold) == (DEFAULT_PENALTY, None)
    assert found.temperature.tolist() == [1]
    assert (rows @ found.weights + found.bias).argmax(axis=1).tolist() == targets.tolist()


def test_calibrated_divides_by_the_temperature():
    logits = np.array([[2.0, 0.0, -2.0]])
    assert calibrated(logits, np.array([2.0]), False)[0] == pytest.approx(softmax([1, 0, -1]))
    each = calibrated(logits, np.array([1.0, 2.0, 4.0]), True)[0]
    assert each == pytest.approx(expit([2, 0, -0.5]))
