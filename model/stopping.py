"""Whether it is time to stop labelling: two signals, and one hint with its reason.

*Settled predictions.* Bloodgood and Vijay-Shanker, *A Method for Stopping Active Learning Based on
Stabilizing Predictions* (2009): stop when successive models agree on images that nobody labelled,
by Cohen's kappa over the last three comparisons. It needs no label at all, but a model that learns
nothing more because its labels are poor is settled, too.

*Gain.* What the learning curve promises for the next 100 labels, with its interval.

The hint wants both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from model.checks import class_positions
from model.errors import ArgumentError
from model.learning_curve import LearningCurve
from model.plurals import counted

STEP = 100
"""Labels between two versions whose predictions are compared: with fewer they agree whatever they
have learned."""
COMPARISONS = 3
LEAST_AGREEMENT = 0.97
LEAST_GAIN = 0.005
"""Accuracy for 100 labels below which they hardly pay."""


@dataclass(frozen=True)
class Agreement:
    """Cohen's ``kappa`` of two versions' predictions, and the labels that each learned from."""

    labels_before: int
    labels_after: int
    kappa: float


@dataclass(frozen=True)
class Gain:
    """Accuracy to be gained by 100 more labels: the median, and an interval that holds 80%."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class StopHint:
    """Whether to stop: True, False, or None while it cannot be told; and why, in one sentence.

    ``agreement``  mean kappa of the last comparisons, None where there are too few
    ``gain``       None where no curve could be fitted
    """

    stop: bool | None
    sentence: str
    agreement: float | None
    gain: Gain | None


def kappa(before: ArrayLike, after: ArrayLike, class_count: int) -> float:
    """Agreement of two (n,) arrays of predicted class positions beyond chance, at most 1.

    Cohen, *A Coefficient of Agreement for Nominal Scales* (1960): (p_o - p_e) / (1 - p_e), p_o the
    share of equal predictions and p_e what two models with these shares of classes would have by
    chance. 1 where both say one and the same class only. ArgumentError when there is no row or the
    arrays do not fit.
    """
    first = np.asarray(before)
    n = len(first) if first.ndim == 1 else 0
    if n == 0:
        raise ArgumentError(f"before has shape {first.shape}; (n,) predictions are needed.")
    first = class_positions("before", first, length=n, class_count=class_count)
    second = class_positions("after", after, length=n, class_count=class_count)
    shares = (np.bincount(said, minlength=class_count) / n for said in (first, second))
    by_chance = float(np.prod(list(shares), axis=0).sum())
    observed = float((first == second).mean())
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def gain_per_100(curve: LearningCurve) -> Gain:
    """What the next 100 labels are worth by the likely curves; never below 0."""
    gains = curve.accuracy(min(STEP, curve.grid[-1] - curve.grid[0])) - curve.accuracy()
    low, middle, high = np.quantile(np.maximum(gains, 0), [0.1, 0.5, 0.9])
    return Gain(float(middle), float(low), float(high))


def stop_hint(
    agreements: Sequence[Agreement],
    curve: LearningCurve | None,
    *,
    least_gain: float = LEAST_GAIN,
    least_agreement: float = LEAST_AGREEMENT,
) -> StopHint:
    """The hint from comparisons in order of time and the learning curve, where there is one.

    Only comparisons of versions at least ``STEP`` labels apart count. Settled means that the mean
    of the last ``COMPARISONS`` of them is at least ``least_agreement``; small means that the median
    gain is below ``least_gain``. The thresholds are explained in docs/forecast.md.
    """
    apart = [a for a in agreements if a.labels_after - a.labels_before >= STEP]
    mean = float(np.mean([a.kappa for a in apart[-COMPARISONS:]])) if apart else None
    agreement = mean if len(apart) >= COMPARISONS else None
    gain = gain_per_100(curve) if curve is not None and curve.fits else None
    if agreement is None or gain is None:
        return StopHint(None, _unknown(len(apart), gain), agreement, gain)
    settled, small = agreement >= least_agreement, gain.middle < least_gain
    return StopHint(settled and small, _reason(settled, small, agreement, gain), agreement, gain)


def _unknown(comparisons: int, gain: Gain | None) -> str:
    lacking = []
    if comparisons < COMPARISONS:
        more = counted(COMPARISONS - comparisons, "more comparison")
        are = "is" if more.startswith("1 ") else "are"
        lacking.append(f"{more} of versions {STEP} labels apart {are} needed")
    if gain is None:
        lacking.append("no learning curve can be fitted yet")
    return f"Cannot tell yet whether to stop: {' and '.join(lacking)}."


def _reason(settled: bool, small: bool, agreement: float, gain: Gain) -> str:
    change = f"{STEP} labels {'hardly change' if settled else 'still change'} its predictions "
    worth = (
        f"are worth about {100 * gain.middle:.1f} points "
        f"({100 * gain.low:.1f} to {100 * gain.high:.1f})"
    )
    start = "Labelling more hardly pays" if settled and small else "Go on labelling"
    return f"{start}: {change}(agreement {agreement:.3f}) and {worth}."
