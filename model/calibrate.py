"""Make probabilities mean what they say, and measure how far they do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from model.checks import class_flags, class_positions, finite_matrix, probability_matrix
from model.errors import ArgumentError

Array = NDArray[np.float64]

LOG_TEMPERATURE_RANGE = (-3.0, 3.0)
ECE_BINS = 15


def fit_temperature(logits: ArrayLike, targets: ArrayLike, multiple: bool) -> NDArray[np.float32]:
    """The temperature T, in [e^-3, e^3], that makes logits / T most likely: float32, above 0.

    ``multiple`` False: (n, k) logits and (n,) class positions give one T, shape (1,), for the
    softmax. True: (n, k) logits and (n, k) flags give one T for each sigmoid, shape (k,).
    Guo, Pleiss, Sun and Weinberger, *On Calibration of Modern Neural Networks* (2017), eq. 9.

    Dividing by T keeps the order of the classes in a row (for sigmoids: the side of 1/2). The log
    loss on the data passed in is never above that of T = 1, which is also the answer without rows.
    ArgumentError when a logit is not finite or ``targets`` does not fit.
    """
    scores = finite_matrix("logits", logits)
    n, k = scores.shape
    if multiple:
        flags = class_flags("targets", targets, length=n, class_count=k)
        columns = [_best(_Sigmoid(scores[:, c], flags[:, c])) for c in range(k)]
        return np.array(columns, dtype=np.float32)
    positions = class_positions("targets", targets, length=n, class_count=k)
    return np.array([_best(_Softmax(scores, positions))], dtype=np.float32)


def temper_confidence(
    logits: Array, temperature: NDArray[np.float32], multiple: bool
) -> NDArray[np.float32]:
    """Raise T until the mean confidence of n rows is at most (n + 1) / (n + 2).

    That is Laplace's rule of succession for n right answers of n: few labels that all come out
    right are no ground for certainty, though the log loss alone would drive T to its lower end
    and every probability to 0 or 1. (n, k) ``logits``; ``temperature`` as from
    :func:`fit_temperature`, and so is the result, at most e^3 where it is raised.
    """
    most = (len(logits) + 1) / (len(logits) + 2)
    columns = [logits[:, [c]] for c in range(logits.shape[1])] if multiple else [logits]
    raised = [
        _cooled(column, float(t), most) for column, t in zip(columns, temperature, strict=True)
    ]
    return np.array(raised, dtype=np.float32)


def expected_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, bins: int = ECE_BINS
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, in [0, 1].

    ECE = sum over bins of |B| / n * |accuracy(B) - confidence(B)|, Guo et al. (2017), eq. 3 as
    estimated in section 2, bins ((b - 1) / bins, b / bins].

    (n,) ``targets`` are class positions: confidence is a row's largest probability, and it is
    accurate when that class is the target. (n, k) flags are yes-or-no questions: each of the
    n * k probabilities is a confidence of its own, and accurate when its flag is True.
    ArgumentError when there is no row or ``bins`` is below 1.
    """
    gaps = calibration_gaps(probabilities, targets, bins)
    if len(gaps) == 0:
        raise ArgumentError("probabilities has 0 rows; at least 1 is needed.")
    return float(np.abs(gaps.sum(axis=0)).sum() / len(gaps))


def calibration_gaps(probabilities: ArrayLike, targets: ArrayLike, bins: int) -> Array:
    """(n, bins) what each row adds to the gap of each bin, accurate minus confident.

    |sum over rows| / n, summed over the bins, is :func:`expected_calibration_error`, whose
    arguments these are: with flags, a row adds the mean over its k questions.
    """
    flags = np.ndim(np.asarray(targets)) == 2
    p = probability_matrix("probabilities", probabilities, rows_sum_to_one=not flags)
    n, k = p.shape
    if bins < 1:
        raise ArgumentError(f"bins is {bins!r}; at least 1 is needed.")
    if flags:
        confidence = p
        right = class_flags("targets", targets, length=n, class_count=k)
    else:
        confidence = p.max(axis=1, keepdims=True)
        positions = class_positions("targets", targets, length=n, class_count=k)
        right = (p.argmax(axis=1) == positions)[:, None]
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.zeros((n, bins))
    np.add.at(gaps, (np.arange(n)[:, None], place), (right - confidence) / confidence.shape[1])
    return gaps


class _Softmax:
    """Mean log loss of softmax(logits / T) as a function of log T."""

    def __init__(self, logits: Array, targets: NDArray[np.int64]) -> None:
        self.logits = logits
        self.targets = targets
        self.rows = len(logits)

    def __call__(self, log_temperature: float) -> float:
        logs = log_softmax(self.logits / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(self.rows), self.targets].mean())


class _Sigmoid:
    """Mean log loss of sigmoid(logits / T) as a function of log T."""

    def __init__(self, logits: Array, flags: NDArray[np.bool_]) -> None:
        # How far each logit lies on the right side of 0: the loss needs nothing else.
        self.margins = np.where(flags, logits, -logits)
        self.rows = len(logits)

    def __call__(self, log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -self.margins / np.exp(log_temperature)).mean())


def _best(loss: _Softmax | _Sigmoid) -> float:
    if loss.rows == 0:
        return 1.0
    from scipy.optimize import minimize_scalar  # slow to load, and nothing that serves asks it

    found = minimize_scalar(
        loss, bounds=LOG_TEMPERATURE_RANGE, method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def _cooled(logits: Array, temperature: float, most: float) -> float:
    """The least T from ``temperature`` up whose mean confidence is at most ``most``."""
    if logits.shape[1] == 1:
        # One sigmoid is a softmax over (logit, 0).
        logits = np.hstack([logits, np.zeros_like(logits)])

    from scipy.optimize import brentq

    def excess(log_temperature: float) -> float:
        return float(softmax(logits / np.exp(log_temperature), axis=1).max(axis=1).mean()) - most

    low, high = np.log(temperature), LOG_TEMPERATURE_RANGE[1]
    if len(logits) == 0 or low >= high or excess(low) <= 0:
        return temperature
    return float(np.exp(high if excess(high) > 0 else brentq(excess, low, high, xtol=1e-4)))
