from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from model.linear import fit_linear, principal_axes


def problem(n: int, d: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % k
    rows = rng.normal(0, 1, (n, d)) + 2 * rng.normal(0, 1, (k, d))[targets] + 5
    return rows, targets


@pytest.mark.parametrize(("n", "d"), [(12, 40), (60, 8), (30, 30)])
def test_axes_keep_every_distance(n: int, d: int):
    rows, _ = problem(n, d, 3, 0)
    axes = principal_axes(rows)
    assert axes.scores.shape[1] == min(n - 1, d)
    np.testing.assert_allclose((rows - axes.centre) @ axes.basis, axes.scores, atol=1e-9)
    assert (axes.scores**2).sum(axis=1).mean() == pytest.approx(1)
    np.testing.assert_allclose((axes.scores**2).sum(axis=0), axes.variance, rtol=1e-8)
    centred = rows - rows.mean(axis=0)
    scale = n / (centred**2).sum()
    np.testing.assert_allclose(axes.scores @ axes.scores.T, centred @ centred.T * scale, atol=1e-9)


def test_equal_rows_have_no_axes():
    axes = principal_axes(np.ones((5, 3)))
    assert axes.scores.shape == (5, 0)


def loss(scores: np.ndarray, targets: np.ndarray, w: np.ndarray, b: np.ndarray, penalty: float):
    logs = log_softmax(scores @ w + b, axis=1)
    return -logs[np.arange(len(targets)), targets].sum() + penalty / 2 * (w**2).sum()


@pytest.mark.parametrize(("n", "d"), [(40, 100), (120, 10)])
@pytest.mark.parametrize("penalty", [1.0, 0.05])
def test_softmax_reaches_scikit_learns_optimum(n: int, d: int, penalty: float):
    rows, targets = problem(n, d, 3, 1)
    axes = principal_axes(rows)
    found = fit_linear(axes, np.eye(3)[targets], np.ones((n, 1, 1)), penalty, multiple=False)
    theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000)
    theirs.fit(axes.scores, targets)
    ours = loss(axes.scores, targets, found[:-1, 0], found[-1, 0], penalty)
    best = loss(axes.scores, targets, theirs.coef_.T, theirs.intercept_, penalty)
    assert ours <= best * 1.001
    p = softmax(axes.scores @ found[:-1, 0] + found[-1, 0], axis=1)
    np.testing.assert_allclose(p, theirs.predict_proba(axes.scores), atol=0.01)


def test_sigmoids_reach_scikit_learns_optimum():
    rows, targets = problem(80, 12, 4, 2)
    flags = np.stack([targets == 0, targets <= 1, targets % 2 == 0], axis=1)
    axes = principal_axes(rows)
    found = fit_linear(axes, flags.astype(float), np.ones((80, 1, 3)), 0.3, multiple=True)
    for c in range(3):
        theirs = LogisticRegression(C=1 / 0.3, tol=1e-10, max_iter=10_000)
        theirs.fit(axes.scores, flags[:, c])
        p = 1 / (1 + np.exp(-(axes.scores @ found[:-1, 0, c] + found[-1, 0, c])))
        np.testing.assert_allclose(p, theirs.predict_proba(axes.scores)[:, 1], atol=0.01)


def test_several_models_at_once_equal_each_alone():
    rows, targets = problem(45, 20, 3, 3)
    axes = principal_axes(rows)
    included = np.ones((45, 3, 1))
    included[:15, 0] = 0
    included[15:30, 1] = 0
    flags = np.eye(3)[targets]
    together = fit_linear(axes, flags, included, 0.2, multiple=False)
    for model in range(3):
        alone = fit_linear(axes, flags, included[:, [model]], 0.2, multiple=False)
        gap = axes.scores @ (together[:-1, model] - alone[:-1, 0])
        gap += together[-1, model] - alone[-1, 0]
        assert np.abs(gap - gap.mean(axis=1, keepdims=True)).max() < 0.06


def test_a_row_left_out_changes_nothing():
    rows, targets = problem(30, 10, 3, 4)
    axes = principal_axes(rows)
    included = np.ones((30, 1, 1))
    included[7] = 0
    flags = np.eye(3)[targets]
    other = flags.copy()
    other[7] = [0, 0, 1] if targets[7] != 2 else [1, 0, 0]
    one = fit_linear(axes, flags, included, 0.2, multiple=False)
    two = fit_linear(axes, other, included, 0.2, multiple=False)
    np.testing.assert_array_equal(one, two)


def test_weights_unfold_to_the_rows_passed_in():
    rows, targets = problem(25, 60, 3, 5)
    axes = principal_axes(rows)
    found = fit_linear(axes, np.eye(3)[targets], np.ones((25, 1, 1)), 0.1, multiple=False)
    weights, bias = axes.unfold(found[:-1, 0], found[-1, 0])
    assert weights.shape == (60, 3)
    expected = axes.scores @ found[:-1, 0] + found[-1, 0]
    np.testing.assert_allclose(rows @ weights + bias, expected, atol=1e-9)


def test_an_offset_is_kept_and_only_the_rest_is_fitted():
    generator = np.random.default_rng(11)
    rows = generator.normal(size=(60, 4))
    targets = generator.integers(0, 3, 60)
    flags = np.eye(3)[targets]
    axes = principal_axes(rows)
    given = generator.normal(size=(5, 3))
    offset = np.stack([np.hstack([axes.scores, np.ones((60, 1))]) @ given] * 2, axis=1)
    included = np.ones((60, 2, 1))
    included[:20, 0] = 0
    found = fit_linear(axes, flags, included, 0.5, multiple=False, tolerance=1e-7, offset=offset)
    for model in range(2):
        used = included[:, model, 0] > 0
        logits = axes.scores @ found[:-1, model] + found[-1, model] + offset[:, model]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        residual = (powers / powers.sum(axis=1, keepdims=True) - flags) * used[:, None]
        # At the optimum the slope is 0, with the penalty on what was added alone.
        slope = axes.scores.T @ residual + 0.5 * found[:-1, model]
        np.testing.assert_allclose(slope, 0, atol=0.02)
        np.testing.assert_allclose(residual.sum(axis=0), 0, atol=0.02)


def centred(scores: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Logits of a softmax, which may all be moved by the same."""
    logits = scores @ w + b
    return logits - logits.mean(axis=1, keepdims=True)


def test_the_folds_together_are_scikit_learns_fits_one_by_one():
    rows, targets = problem(50, 12, 4, 6)
    axes = principal_axes(rows)
    folds = np.arange(50) // 4 % 5
    included = np.ones((50, 6, 1))
    included[np.arange(50), folds] = 0
    found = fit_linear(axes, np.eye(4)[targets], included, 0.7, multiple=False, tolerance=1e-10)
    for model in range(6):
        used = folds != model
        theirs = LogisticRegression(C=1 / 0.7, tol=1e-12, solver="newton-cholesky")
        theirs.fit(axes.scores[used], targets[used])
        expected = centred(axes.scores, theirs.coef_.T, theirs.intercept_)
        ours = centred(axes.scores, found[:-1, model], found[-1, model])
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_the_folds_of_sigmoids_too():
    rows, targets = problem(48, 8, 3, 7)
    flags = np.stack([targets == 0, targets <= 1], axis=1)
    axes = principal_axes(rows)
    included = np.ones((48, 3, 2))
    included[:12, 0] = 0
    included[12:24, 1] = 0
    found = fit_linear(axes, flags.astype(float), included, 0.5, multiple=True, tolerance=1e-10)
    for model in range(3):
        used = included[:, model, 0] > 0
        for c in range(2):
            theirs = LogisticRegression(C=2, tol=1e-12, solver="newton-cholesky")
            theirs.fit(axes.scores[used], flags[used, c])
            expected = axes.scores @ theirs.coef_[0] + theirs.intercept_
            ours = axes.scores @ found[:-1, model, c] + found[-1, model, c]
            np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_single_precision_on_threads_comes_to_the_same():
    # Many enough multiplications for both; a model alone has few enough for neither.
    rows, targets = problem(600, 75, 15, 8)
    axes = principal_axes(rows)
    folds = np.arange(600) // 15 % 29
    included = np.ones((600, 30, 1))
    included[np.arange(600), folds] = 0
    flags = np.eye(15)[targets]
    together = fit_linear(axes, flags, included, 2.0, multiple=False)
    for model in (0, 14, 29):
        alone = fit_linear(axes, flags, included[:, [model]], 2.0, multiple=False, tolerance=1e-8)
        p = softmax(axes.scores @ together[:-1, model] + together[-1, model], axis=1)
        exact = softmax(axes.scores @ alone[:-1, 0] + alone[-1, 0], axis=1)
        np.testing.assert_allclose(p, exact, atol=0.005)


def test_many_rows_are_turned_in_single_precision_and_keep_their_distances():
    rows, _ = problem(5600, 600, 3, 9)
    axes = principal_axes(rows.astype(np.float32))
    assert axes.scores.dtype == np.float32
    centred = rows[:40] - rows.mean(axis=0)
    scale = len(rows) / ((rows - rows.mean(axis=0)) ** 2).sum()
    found = axes.scores[:40].astype(np.float64)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T * scale, atol=2e-4)
    np.testing.assert_allclose((axes.scores**2).sum(axis=0), axes.variance, rtol=2e-3)
