"""A linear classifier whose penalty and temperature are chosen on rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from model.calibrate import fit_temperature, temper_confidence
from model.linear import PrincipalAxes, fit_linear, principal_axes
from model.metrics import log_loss

Array = NDArray[np.float64]

# Strongest first: stronger ones are cheaper to fit, and each starts from the one before.
PENALTIES = (5.0, 1.0, 0.2, 0.04, 0.008, 0.0016)
DEFAULT_PENALTY = 0.04
# Measured on digits and CIFAR-10: with 20 labels a fitted temperature worsened the log loss of
# unseen images; from 50 on it was as good or better. The same holds for honest rows beside others
# that the features were fitted to: the penalty that they choose holds the confidence down already,
# and with 8 to 45 of them a temperature that could only rise made the log loss no better.
CALIBRATION_ROWS = 50
CALIBRATION_ROWS_EACH_SIDE = 5
# With many rows each weaker penalty takes seconds, so it must promise more than a hair, and the
# last digits are left alone.
MANY_ROWS = 1000
LEAST_GAIN_OF_MANY = 0.1
TOLERANCE, TOLERANCE_OF_MANY = 1e-3, 1e-2


@dataclass(frozen=True, eq=False)
class CrossFit:
    """A classifier fitted on every row, and what models without a row say of it.

    ``weights``      (d, k), and ``bias`` (k,), on the rows that were passed in
    ``temperature``  (1,) float32, or (k,) with ``multiple``
    ``out_of_fold``  (n, k) logits, NaN in rows that were not tested; None without folds
    ``penalty``      the one chosen
    """

    weights: Array
    bias: Array
    temperature: NDArray[np.float32]
    out_of_fold: Array | None
    penalty: float


def cross_fit(
    rows: Array,
    targets: NDArray[np.bool_],
    folds: NDArray[np.int64] | None,
    *,
    multiple: bool,
    honest: NDArray[np.bool_] | None = None,
) -> CrossFit:
    """Fit (n, d) ``rows`` to (n, k) ``targets``; ``folds`` as :mod:`model.folds` gives them.

    Tested are the rows in a fold, or with ``honest``, (n,), those of them that are honest.

    Goes from the strongest penalty to the weakest until the cross-validated log loss, at the
    temperature that suits each best, gets worse (above 1,000 rows: is no longer 10% better).
    Without ``multiple`` every class needs a row.

    Runs on one core: beside a busy server, the linear algebra library's threads wait for each
    other longer than they work (measured: 31 s instead of 5 s on two shared cores).
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _cross_fit(rows, targets, folds, multiple, honest)


def calibrated(
    logits: NDArray[np.floating], temperature: NDArray[np.floating], multiple: bool
) -> Array:
    """(n, k) logits -> (n, k) float64 probabilities: sigmoids, or softmax rows that sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    return np.asarray(expit(scaled) if multiple else softmax(scaled, axis=1), dtype=np.float64)


def _cross_fit(
    rows: Array,
    targets: NDArray[np.bool_],
    folds: NDArray[np.int64] | None,
    multiple: bool,
    honest: NDArray[np.bool_] | None,
) -> CrossFit:
    axes = principal_axes(rows)
    included: Array = _learned_rows(len(rows), folds)
    start: Array = np.zeros((axes.scores.shape[1] + 1, included.shape[1], targets.shape[1]))
    if multiple:
        included, start[-1] = _learned_classes(targets, included)
    flags = targets.astype(np.float64)
    if folds is None:
        found = fit_linear(axes, flags, included, DEFAULT_PENALTY, multiple=multiple, start=start)
        weights, bias = axes.unfold(found[:-1, -1], found[-1, -1])
        return CrossFit(weights, bias, _ones(targets, multiple), None, DEFAULT_PENALTY)
    tested = folds >= 0 if honest is None else (folds >= 0) & honest
    best: CrossFit | None = None
    least = np.inf
    many = len(rows) > MANY_ROWS
    worthwhile, tolerance = (LEAST_GAIN_OF_MANY, TOLERANCE_OF_MANY) if many else (0.0, TOLERANCE)
    for penalty in PENALTIES:
        start = fit_linear(
            axes, flags, included, penalty, multiple=multiple, start=start, tolerance=tolerance
        )
        logits = _out_of_fold(axes, start, np.where(tested, folds, -1))
        temperature, loss = _calibrated_loss(logits[tested], targets[tested], multiple)
        previous, least = least, min(least, loss)
        if loss < previous:
            weights, bias = axes.unfold(start[:-1, -1], start[-1, -1])
            best = CrossFit(weights, bias, temperature, logits, penalty)
        if loss >= previous * (1 - worthwhile):
            break
    assert best is not None
    return best


def _learned_rows(n: int, folds: NDArray[np.int64] | None) -> Array:
    """(n, f, 1) 0/1: which rows each model learns: one for each fold, without it, and one all."""
    if folds is None:
        return np.ones((n, 1, 1))
    included = np.ones((n, int(folds.max()) + 2, 1))
    tested = np.flatnonzero(folds >= 0)
    included[tested, folds[tested]] = 0
    return included


def _learned_classes(targets: NDArray[np.bool_], rows: Array) -> tuple[Array, Array]:
    """(n, f, k) 0/1: which rows and classes each model learns, and the (f, k) biases to start at.

    A class needs a yes and a no among a model's rows to be learned; else it keeps its first bias,
    the log odds by the rule of succession.
    """
    learned = rows[:, :, 0].T
    yes, no = learned @ targets, learned @ ~targets
    return rows * ((yes > 0) & (no > 0)), np.log((yes + 1) / (no + 1))


def _out_of_fold(axes: PrincipalAxes, solution: Array, folds: NDArray[np.int64]) -> Array:
    logits = np.full((len(folds), solution.shape[2]), np.nan)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        logits[held] = axes.scores[held] @ solution[:-1, fold] + solution[-1, fold]
    return logits


def _ones(flags: NDArray[np.bool_], multiple: bool) -> NDArray[np.float32]:
    return np.ones(flags.shape[1] if multiple else 1, dtype=np.float32)


def _calibrated_loss(
    logits: Array, flags: NDArray[np.bool_], multiple: bool
) -> tuple[NDArray[np.float32], float]:
    """The temperature for tested rows' logits, and their mean log loss with it."""
    truth = flags if multiple else flags.argmax(axis=1)
    temperature = _ones(flags, multiple)
    if len(logits) >= CALIBRATION_ROWS:
        temperature = fit_temperature(logits, truth, multiple)
        if multiple:
            fewer = np.minimum(flags.sum(axis=0), (~flags).sum(axis=0))
            temperature[fewer < CALIBRATION_ROWS_EACH_SIDE] = 1
    temperature = temper_confidence(logits, temperature, multiple)
    return temperature, log_loss(calibrated(logits, temperature, multiple), truth)
