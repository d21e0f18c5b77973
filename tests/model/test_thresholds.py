from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from model.errors import ArgumentError
from model.thresholds import cross_thresholds, f1_each, fit_thresholds


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_a_threshold_by_hand() -> None:
    # Ten yes, ten no. From 0.3 on: 10 hits, 12 said: F1 = 20 / 22, the largest there is. Midway to
    # 0.1 is 0.2. Yes to all is 2 * 0.5 / 1.5 = 2/3: skill (10/11 - 2/3) / (1/3) = 8/11.
    p = column(*[0.9] * 6, *[0.4] * 2, *[0.3] * 4, *[0.1] * 8)
    flags = column(*[1] * 6, *[0] * 2, *[1] * 4, *[0] * 8).astype(bool)
    assert fit_thresholds(p, flags)[0] == pytest.approx(0.5 - 0.3 * (10 / 15) * (8 / 11))


def test_few_labels_and_certain_ones_leave_one_half() -> None:
    p = column(*[0.3] * 4, *[0.1] * 40)
    assert fit_thresholds(p, p > 0.2).tolist() == [0.5]
    assert fit_thresholds(1 - p, p < 0.2).tolist() == [0.5]
    # The best of all is above 1/2: never asked for, however many labels there are.
    p = column(*[0.9] * 50, *[0.7] * 50)
    assert fit_thresholds(p, p > 0.8).tolist() == [0.5]
    assert fit_thresholds(np.zeros((0, 2)), np.zeros((0, 2), dtype=bool)).tolist() == [0.5, 0.5]


def test_a_class_that_nothing_is_known_of_is_not_ticked_everywhere() -> None:
    rng = np.random.default_rng(0)
    p = np.clip(rng.normal(0.15, 0.02, (4000, 1)), 0.01, 1)
    flags = rng.random((4000, 1)) < 0.15
    [threshold] = fit_thresholds(p, flags)
    assert threshold > 0.48
    assert (p >= threshold).sum() == 0


def test_calibrated_probabilities_come_near_half_the_best_f1() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(0.4, 2.0, (60_000, 1))
    flags = rng.random(p.shape) < p
    grid = np.linspace(0.01, 0.6, 60)
    best = max(float(f1_each(p >= t, flags)[0]) for t in grid)
    share = flags.mean()
    skill = (best - 2 * share / (1 + share)) / (1 - 2 * share / (1 + share))
    [threshold] = fit_thresholds(p, flags)
    assert threshold == pytest.approx(0.5 - (0.5 - best / 2) * skill, abs=0.01)
    assert f1_each(p >= threshold, flags) > f1_each(p >= 0.5, flags) + 0.02


@given(arrays(np.float64, (30, 2), elements=st.floats(0, 1, width=16)), arrays(np.bool_, (30, 2)))
def test_thresholds_lie_between_the_best_and_one_half(p: np.ndarray, flags: np.ndarray) -> None:
    found = fit_thresholds(p, flags)
    assert found.dtype == np.float32
    assert ((found > 0) & (found <= 0.5)).all()
    moved = found < 0.5
    # What moves a threshold is a better F1 on these rows than that of 1/2, by some threshold.
    for c in np.flatnonzero(moved):
        best = max(f1_each(p[:, [c]] >= t, flags[:, [c]])[0] for t in np.unique(p[:, c]))
        assert best > 2 * flags[:, c].mean() / (1 + flags[:, c].mean())


@given(arrays(np.bool_, (12, 3)), arrays(np.bool_, (12, 3)))
def test_f1_of_each_class_equals_sklearn(said: np.ndarray, flags: np.ndarray) -> None:
    found = f1_each(said, flags)
    for c in range(3):
        if np.isnan(found[c]):
            assert not (said[:, c] | flags[:, c]).any()
        else:
            assert found[c] == pytest.approx(f1_score(flags[:, c], said[:, c], zero_division=0))


def test_no_row_chooses_its_own_threshold() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((60, 2))
    flags, folds = rng.random((60, 2)) < p, np.arange(60) % 3
    found = cross_thresholds(p, flags, folds)
    for fold in range(3):
        wanted = fit_thresholds(p[folds != fold], flags[folds != fold])
        assert (found[folds == fold] == wanted).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"probabilities\[0, 0\] is 1.5"):
        fit_thresholds([[1.5]], [[True]])
    with pytest.raises(ArgumentError, match=r"flags has shape \(1, 2\); \(1, 1\)"):
        fit_thresholds([[0.5]], [[True, False]])
