"""From which probability on a class of several is ticked, chosen for the F1 measure."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import class_flags, probability_matrix
from model.errors import ArgumentError

Array = NDArray[np.float64]

NEUTRAL = 0.5
# As for a temperature: fewer labels on either side move nothing.
LABELS_EACH_SIDE = 5
# So many labels of the rarer side count half.
HALFWAY = 5


def fit_thresholds(probabilities: ArrayLike, flags: ArrayLike) -> NDArray[np.float32]:
    """(n, k) held-out calibrated probabilities and (n, k) flags -> (k,) float32 in (0, 1/2].

    A class is said from its threshold on. Ticking what is likelier than not is right most often,
    but hardly ever ticks a rare class; F1 = 2 hits / (said + true) weighs both kinds of error
    against the class's own size. Lipton, Elkan and Naryanaswamy, *Optimal Thresholding of
    Classifiers to Maximize F1 Measure* (2014): with calibrated probabilities the best threshold is
    half the best F1, so at most 1/2; and of a class that a model knows nothing of, the best is to
    say yes to every row, which helps nobody who labels.

    So of each class the threshold t with the largest F1 on the rows is found (between two
    probabilities, midway), capped at 1/2, and drawn back towards 1/2:

        1/2 - (1/2 - t) * m / (m + 5) * (F - A) / (1 - A)

    with m the labels of the rarer side, F the largest F1, and A = 2b / (1 + b) the F1 of saying
    yes to all rows, b the share of yes. The first factor holds while labels are few, the second
    where the model knows little. Fewer than 5 labels on either side leave 1/2.

    ArgumentError when a probability is outside [0, 1] or the shapes differ.
    """
    p = probability_matrix("probabilities", probabilities, rows_sum_to_one=False)
    n, k = p.shape
    wanted = class_flags("flags", flags, length=n, class_count=k)
    return np.array([_threshold(p[:, c], wanted[:, c]) for c in range(k)], dtype=np.float32)


def check_thresholds(thresholds: NDArray[np.float32] | None, wanted: tuple[int] | None) -> None:
    """ArgumentError unless thresholds have that shape, None for none, and lie in (0, 1]."""
    shape = None if thresholds is None else thresholds.shape
    if shape != wanted:
        raise ArgumentError(f"thresholds has shape {shape}; {wanted} is needed.")
    if thresholds is not None and not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ArgumentError(f"thresholds is {thresholds}; (0, 1] is allowed.")


def cross_thresholds(
    probabilities: Array, flags: NDArray[np.bool_], folds: NDArray[np.int64]
) -> Array:
    """(n, k): for each row the thresholds that the rows of other folds choose, to measure with."""
    found = np.empty(probabilities.shape)
    for fold in np.unique(folds):
        held = folds == fold
        found[held] = fit_thresholds(probabilities[~held], flags[~held])
    return found


def f1_each(said: NDArray[np.bool_], flags: NDArray[np.bool_]) -> Array:
    """(n, k) said and true -> (k,) F1 = 2 hits / (said + true), NaN where neither is ever yes."""
    hits, total = (said & flags).sum(axis=0), said.sum(axis=0) + flags.sum(axis=0)
    return np.where(total > 0, 2 * hits / np.maximum(total, 1), np.nan)


def _threshold(p: Array, flags: NDArray[np.bool_]) -> float:
    yes = int(flags.sum())
    fewer = min(yes, flags.size - yes)
    if fewer < LABELS_EACH_SIDE:
        return NEUTRAL
    best, at = _best_f1(p, flags)
    share = yes / flags.size
    always = 2 * share / (1 + share)
    skill = max(0.0, (best - always) / (1 - always))
    return NEUTRAL - max(0.0, NEUTRAL - at) * fewer / (fewer + HALFWAY) * skill


def _best_f1(p: Array, flags: NDArray[np.bool_]) -> tuple[float, float]:
    """The largest F1 of any threshold, and the threshold, the highest of several."""
    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    below = np.append(ranked[1:], 0.0)
    f1 = 2 * np.cumsum(flags[order]) / (np.arange(1, p.size + 1) + flags.sum())
    # Equal probabilities are said together.
    f1[ranked == below] = 0.0
    best = int(f1.argmax())
    return float(f1[best]), float((ranked[best] + below[best]) / 2)
