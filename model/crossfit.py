"""A linear classifier whose penalty, temperature and trust in the unlabelled images are chosen on
rows it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from model.calibrate import fit_temperature, temper_confidence
from model.linear import PrincipalAxes, fit_linear, principal_axes
from model.metrics import log_loss
from model.pool_prior import PoolPrior

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
# By how much the pool's shares, 0 to 1, move a logit: chosen like the penalty, uphill from the
# default. With many rows only whether to listen at all is.
TRUSTS, TRUSTS_OF_MANY, DEFAULT_TRUST = (0.0, 6.0, 12.0, 20.0), (0.0, 12.0), 12.0


@dataclass(frozen=True, eq=False)
class CrossFit:
    """A classifier fitted on every row, and what models without a row say of it.

    ``weights``      (d, k), and ``bias`` (k,), on the rows that were passed in
    ``temperature``  (1,) float32, or (k,) with ``multiple``
    ``out_of_fold``  (n, k) logits, NaN in rows that were not tested; None without folds
    ``penalty``      the one chosen
    ``trust``        how strongly the unlabelled images count, 0 where they do not
    """

    weights: Array
    bias: Array
    temperature: NDArray[np.float32]
    out_of_fold: Array | None
    penalty: float
    trust: float = 0.0


def cross_fit(
    rows: Array,
    targets: NDArray[np.bool_],
    folds: NDArray[np.int64] | None,
    *,
    multiple: bool,
    honest: NDArray[np.bool_] | None = None,
    pool: PoolPrior | None = None,
) -> CrossFit:
    """Fit (n, d) ``rows`` to (n, k) ``targets``; ``folds`` as :mod:`model.folds` gives them.

    Tested are the rows in a fold, or with ``honest``, (n,), those of them that are honest.

    Goes from the strongest penalty to the weakest until the cross-validated log loss, at the
    temperature that suits each best, gets worse (above 1,000 rows: is no longer 10% better).
    Without ``multiple`` every class needs a row, and with a ``pool`` the same is done for several
    degrees of trust in it: the logits are then trust times the pool's shares plus what is fitted
    on top. Each fold's model has shares of its own, from the labels that it may know.

    Runs on one core: beside a busy server, the linear algebra library's threads wait for each
    other longer than they work (measured: 31 s instead of 5 s on two shared cores).
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _cross_fit(rows, targets, folds, multiple, honest, None if multiple else pool)


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
    pool: PoolPrior | None,
) -> CrossFit:
    included: Array = _learned_rows(len(rows), folds)
    flags = targets.astype(np.float64)
    shares = None if pool is None else _Shares(pool, rows, flags, included[:, :, 0])
    fitting = _Fitting(principal_axes(rows), flags, included, multiple, shares)
    if folds is None:
        return fitting.untested(DEFAULT_PENALTY, DEFAULT_TRUST if shares else 0.0)
    tested = folds >= 0 if honest is None else (folds >= 0) & honest
    many = len(rows) > MANY_ROWS
    trusts = (0.0,) if shares is None else TRUSTS_OF_MANY if many else TRUSTS
    return _best_trust(fitting, targets, np.where(tested, folds, -1), trusts, many)


class _Shares:
    """What the pool says of n labelled rows, to each of f models, and the maps that say it."""

    def __init__(self, pool: PoolPrior, rows: Array, flags: Array, included: Array) -> None:
        self.weights, self.bias = pool.directions(
            pool.seeds(rows.astype(np.float32)), flags, included
        )
        self.logits = np.stack(
            [rows @ part + bias for part, bias in zip(self.weights, self.bias, strict=True)], axis=1
        )


@dataclass(frozen=True, eq=False)
class _Fitting:
    """The rows in their axes, what each model learns of them, and what the pool adds."""

    axes: PrincipalAxes
    flags: Array
    included: Array
    multiple: bool
    shares: _Shares | None

    def start(self) -> tuple[Array, Array]:
        """What each model may learn, and where it starts."""
        f, k = self.included.shape[1], self.flags.shape[1]
        start: Array = np.zeros((self.axes.scores.shape[1] + 1, f, k))
        if not self.multiple:
            return self.included, start
        included, start[-1] = _learned_classes(self.flags > 0, self.included)
        return included, start

    def offset(self, trust: float) -> Array | None:
        """(n, f, k) the logits that the pool gives."""
        return trust * self.shares.logits if self.shares is not None and trust else None

    def unfold(self, solution: Array, trust: float) -> tuple[Array, Array]:
        """The (d, k) weights and (k,) bias of the model of all rows."""
        weights, bias = self.axes.unfold(solution[:-1, -1], solution[-1, -1])
        if self.shares is None or not trust:
            return weights, bias
        return weights + trust * self.shares.weights[-1], bias + trust * self.shares.bias[-1]

    def untested(self, penalty: float, trust: float) -> CrossFit:
        """The fit where nothing can be chosen."""
        included, start = self.start()
        found = fit_linear(
            self.axes,
            self.flags,
            included,
            penalty,
            multiple=self.multiple,
            start=start,
            offset=self.offset(trust),
        )
        weights, bias = self.unfold(found, trust)
        ones = _ones(self.flags > 0, self.multiple)
        return CrossFit(weights, bias, ones, None, penalty, trust)


def _best_trust(
    fitting: _Fitting,
    targets: NDArray[np.bool_],
    tested: NDArray[np.int64],
    trusts: Sequence[float],
    many: bool,
) -> CrossFit:
    """The fit of the best trust, from the default on to one side and then the other, as long as it
    gets better."""
    middle = trusts.index(DEFAULT_TRUST) if DEFAULT_TRUST in trusts else 0
    best, least = _best_penalty(fitting, targets, tested, trusts[middle], many)
    for side in (trusts[middle + 1 :], trusts[:middle][::-1]):
        first = best
        for trust in side:
            found, loss = _best_penalty(fitting, targets, tested, trust, many)
            if loss >= least:
                break
            best, least = found, loss
        if best is not first:
            break
    return best


def _best_penalty(
    fitting: _Fitting,
    targets: NDArray[np.bool_],
    tested: NDArray[np.int64],
    trust: float,
    many: bool,
) -> tuple[CrossFit, float]:
    """The fit of the best penalty at one degree of trust, and its cross-validated log loss;
    ``tested`` is the fold of the rows that are tested, -1 for the others."""
    included, start = fitting.start()
    offset, judged = fitting.offset(trust), tested >= 0
    worthwhile, tolerance = (LEAST_GAIN_OF_MANY, TOLERANCE_OF_MANY) if many else (0.0, TOLERANCE)
    best: CrossFit | None = None
    least = np.inf
    for penalty in PENALTIES:
        start = fit_linear(
            fitting.axes,
            fitting.flags,
            included,
            penalty,
            multiple=fitting.multiple,
            start=start,
            tolerance=tolerance,
            offset=offset,
        )
        logits = _out_of_fold(fitting.axes, start, tested, offset)
        temperature, loss = _calibrated_loss(logits[judged], targets[judged], fitting.multiple)
        previous, least = least, min(least, loss)
        if loss < previous:
            weights, bias = fitting.unfold(start, trust)
            best = CrossFit(weights, bias, temperature, logits, penalty, trust)
        if loss >= previous * (1 - worthwhile):
            break
    assert best is not None
    return best, least


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


def _out_of_fold(
    axes: PrincipalAxes, solution: Array, folds: NDArray[np.int64], offset: Array | None
) -> Array:
    logits = np.full((len(folds), solution.shape[2]), np.nan)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        logits[held] = axes.scores[held] @ solution[:-1, fold] + solution[-1, fold]
        if offset is not None:
            logits[held] += offset[held, fold]
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
