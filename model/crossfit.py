"""A linear classifier whose penalty and temperature are chosen on rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from model.calibrate import fit_temperature, temper_confidence
from model.linear import PrincipalAxes, fit_linear, principal_axes
from model.metrics import log_loss

Array = NDArray[np.float64]

# Strongest first: stronger ones are cheaper to fit, and each starts from the one before.
PENALTIES = (5.0, 1.0, 0.2, 0.04, 0.008, 0.0016)
DEFAULT_PENALTY = 0.04
# Measured on digits and CIFAR-10: with 20 labels a fitted temperature worsened the log loss of
# unseen images; from 50 on it was as good or better.
CALIBRATION_ROWS = 50
CALIBRATION_ROWS_EACH_SIDE = 5
# With many rows each weaker penalty takes seconds, so it must promise more than a hair.
MANY_ROWS = 1000
LEAST_GAIN_OF_MANY = 0.1


@dataclass(frozen=True, eq=False)
class CrossFit:
    """A classifier fitted on every row, and what models without a row say of it.

    ``weights``      (d, k), and ``bias`` (k,), on the rows that were passed in
    ``temperature``  (1,) float32, or (k,) with ``multiple``
    ``out_of_fold``  (n, k) logits, NaN in rows that are in no fold; None without folds
    ``penalty``      the one chosen
    """

    weights: Array
    bias: Array
    temperature: NDArray[np.float32]
    out_of_fold: Array | None
    penalty: float


def cross_fit(
    rows: Array, targets: NDArray[np.bool_], folds: NDArray[np.int64] | None, *, multiple: bool
) -> CrossFit:
    """Fit (n, d) ``rows`` to (n, k) ``targets``; ``folds`` as :mod:`model.folds` gives them.

    Goes from the strongest penalty to the weakest until the cross-validated log loss, at the
    temperature that suits each best, gets worse (above 1,000 rows: is no longer 10% better).
    Without ``multiple`` every class needs a row.

    Runs on one core: beside a busy server, the linear algebra library's threads wait for each
    other longer than they work (measured: 31 s instead of 5 s on two shared cores).
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _cross_fit(rows, targets, folds, multiple)


def calibrated(
    logits: NDArray[np.floating], temperature: NDArray[np.floating], multiple: bool
) -> Array:
    """(n, k) logits -> (n, k) float64 probabilities: sigmoids, or softmax rows that sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    return np.asarray(expit(scaled) if multiple else softmax(scaled, axis=1), dtype=np.float64)


def _cross_fit(
    rows: Array, targets: NDArray[np.bool_], folds: NDArray[np.int64] | None, multiple: bool
) -> CrossFit:
    axes = principal_axes(rows)
    included = _included(targets, folds, multiple)
    start = _prior(targets, included, axes.scores.shape[1], multiple)
    flags = targets.astype(np.float64)
    if folds is None:
        found = fit_linear(axes, flags, included, DEFAULT_PENALTY, multiple=multiple, start=start)
        weights, bias = axes.unfold(found[:-1, -1], found[-1, -1])
        return CrossFit(weights, bias, _ones(targets, multiple), None, DEFAULT_PENALTY)
    best: CrossFit | None = None
    least = np.inf
    worthwhile = LEAST_GAIN_OF_MANY if len(rows) > MANY_ROWS else 0.0
    for penalty in PENALTIES:
        start = fit_linear(axes, flags, included, penalty, multiple=multiple, start=start)
        logits = _out_of_fold(axes, start, folds)
        temperature, loss = _calibrated_loss(logits, targets, folds, multiple)
        previous, least = least, min(least, loss)
        if loss < previous:
            weights, bias = axes.unfold(start[:-1, -1], start[-1, -1])
            best = CrossFit(weights, bias, temperature, logits, penalty)
        if loss >= previous * (1 - worthwhile):
            break
    assert best is not None
    return best


def _included(targets: NDArray[np.bool_], folds: NDArray[np.int64] | None, multiple: bool) -> Array:
    """Which rows each of the models learns: one for each fold, without it, and one for all.

    With ``multiple``, also which classes: those with a yes and a no among the rows.
    """
    n = len(targets)
    models = 1 if folds is None else int(folds.max()) + 2
    included = np.ones((n, models, 1))
    if folds is not None:
        tested = folds >= 0
        included[np.flatnonzero(tested), folds[tested]] = 0
    if not multiple:
        return included
    yes, no = _counts(targets, included)
    return included * ((yes > 0) & (no > 0))


def _prior(targets: NDArray[np.bool_], included: Array, axis_count: int, multiple: bool) -> Array:
    """Where the fits start: no weights, and with ``multiple`` the log odds of each class.

    A class that a model does not learn stays there.
    """
    start = np.zeros((axis_count + 1, included.shape[1], targets.shape[1]))
    if multiple:
        learned_rows = included.max(axis=2, keepdims=True)
        yes, no = _counts(targets, learned_rows)
        start[-1] = np.log((yes + 1) / (no + 1))
    return start


def _counts(targets: NDArray[np.bool_], included: Array) -> tuple[Array, Array]:
    """(f, k) rows with and without each class that each model learns; included is (n, f, 1)."""
    learned = included[:, :, 0].T
    return learned @ targets, learned @ ~targets


def _out_of_fold(axes: PrincipalAxes, solution: Array, folds: NDArray[np.int64]) -> Array:
    logits = np.full((len(folds), solution.shape[2]), np.nan)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        logits[held] = axes.scores[held] @ solution[:-1, fold] + solution[-1, fold]
    return logits


def _ones(flags: NDArray[np.bool_], multiple: bool) -> NDArray[np.float32]:
    return np.ones(flags.shape[1] if multiple else 1, dtype=np.float32)


def _calibrated_loss(
    logits: Array, targets: NDArray[np.bool_], folds: NDArray[np.int64], multiple: bool
) -> tuple[NDArray[np.float32], float]:
    """The temperature for out-of-fold logits, and their mean log loss with it."""
    tested = folds >= 0
    held, flags = logits[tested], targets[tested]
    truth = flags if multiple else flags.argmax(axis=1)
    temperature = _ones(flags, multiple)
    if len(held) >= CALIBRATION_ROWS:
        temperature = fit_temperature(held, truth, multiple)
        if multiple:
            fewer = np.minimum(flags.sum(axis=0), (~flags).sum(axis=0))
            temperature[fewer < CALIBRATION_ROWS_EACH_SIDE] = 1
    temperature = temper_confidence(held, temperature, multiple)
    return temperature, log_loss(calibrated(held, temperature, multiple), truth)
