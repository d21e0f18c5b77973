"""Whether a retrained model may replace the one that serves.

One seam: what each model gets right on the same labels goes in, a decision that a person can read
comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import copysign, exp, inf, isfinite, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from model.checks import share
from model.errors import ArgumentError

MINIMUM = 10
"""Labels below which nothing is compared."""
ENOUGH_HELD_OUT = 30
"""Held-out labels from which on they decide alone."""
ERROR_RATE = 0.2
"""How often the test may call a model good enough that is exactly as bad as the margin allows."""
LISTED = 200
"""How many of the images that flip are named."""
ROUNDING = 1e-12


class Evidence(StrEnum):
    """What a decision stands on."""

    NONE = "none"
    HELD_OUT = "held-out"
    CROSS_VALIDATED = "cross-validated"


class Shown(StrEnum):
    """What the paired test shows."""

    NOTHING = "nothing"
    NOT_WORSE = "not worse"
    WORSE = "worse"


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, and why in one sentence.

    ``n``                labels that were compared, or, with nothing to compare, counted
    ``evidence``         where these labels come from
    ``shown``            what the paired test shows of them
    ``score``            its statistic, a standard normal where the challenger is exactly
                         ``margin`` worse; None without a test, and where it is infinite
    ``..._accuracy``     share of right answers on them, None where there is none
    ``..._log_loss``     mean log loss on them, likewise
    ``gained``, ``lost`` labels that went from wrong to right, and from right to wrong
    ``gained_ids``, ``lost_ids``  which ones, the first 200 of each
    ``looks``            how often the held-out labels have been looked at, this time included
    """

    promote: bool
    reason: str
    n: int
    champion_accuracy: float | None
    challenger_accuracy: float | None
    gained: int
    lost: int
    margin: float = 0.0
    evidence: Evidence = Evidence.NONE
    shown: Shown = Shown.NOTHING
    score: float | None = None
    champion_log_loss: float | None = None
    challenger_log_loss: float | None = None
    gained_ids: list[int] = field(default_factory=list)
    lost_ids: list[int] = field(default_factory=list)
    looks: int = 0

    @property
    def weak(self) -> bool:
        """Whether it stands on less than enough held-out labels."""
        return self.evidence is Evidence.CROSS_VALIDATED or self.n < ENOUGH_HELD_OUT


@dataclass(frozen=True, eq=False)
class Graded:
    """What one model makes of n labels: (n,) bool ``right`` and (n,) float log ``loss``."""

    right: NDArray[np.bool_]
    loss: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.right.ndim != 1 or self.right.dtype != np.bool_:
            raise ArgumentError(
                f"right has shape {self.right.shape} and dtype {self.right.dtype}; "
                "(n,) bool is needed."
            )
        if self.loss.shape != self.right.shape or not np.isfinite(self.loss).all():
            raise ArgumentError(
                f"loss has shape {self.loss.shape}; {self.right.shape} finite numbers are needed."
            )


def decide(
    champion: Graded,
    challenger: Graded,
    *,
    margin: float,
    ids: ArrayLike | None = None,
    evidence: Evidence = Evidence.HELD_OUT,
    minimum: int = MINIMUM,
) -> GateDecision:
    """Keep the challenger unless it is worse than the champion by more than ``margin``.

    Both are graded on the same n labels in the same order; ``ids`` (n,) are the images'. The
    champion must not have seen these labels, and the challenger neither.

    Where :func:`paired_score` is at least 0.84, the challenger is shown to lose at most the margin
    and is kept; where it is at most -0.84, it is shown to lose more and is refused: each is wrong
    once in five times for a challenger that is exactly at the margin, and more seldom the farther
    it is from there. In between, the labels are too few to tell by counting right answers. Then the
    challenger is kept when its mean log loss, which sees how sure both are of the truth, is not
    higher; or when it gets no fewer right and exp(-loss), the geometric mean of the probability
    that it gives to the truth, has not fallen by more than the margin either. Else it is refused.

    To get no fewer right is not enough by itself: on 50 labels, about three in ten of the models
    that are truly 4 points worse do so, a much higher log loss is an early sign of a training on
    wrong labels, and the order of the queue lives on how sure the model is.

    Weak evidence, which is cross-validated or of fewer than 30 labels, refuses only what is shown
    to be worse: the models of a cross-validation have learned from a fifth fewer labels than the
    challenger itself, so their log loss is no ground to turn it away. Below ``minimum`` labels the
    challenger is kept, and the reason says so.

    ArgumentError when the two do not fit together, ``margin`` is not in [0, 1] or ``minimum`` is
    below 1.
    """
    before, after = champion.right, challenger.right
    n = after.size
    names = np.arange(n) if ids is None else np.asarray(ids)
    _check(before, names, margin, minimum, n)
    gained, lost = after & ~before, before & ~after
    decision = GateDecision(
        promote=True,
        reason=f"Kept: too few {_labels(evidence)} ({n} of {minimum}) to compare.",
        n=n,
        champion_accuracy=_mean(before),
        challenger_accuracy=_mean(after),
        gained=int(gained.sum()),
        lost=int(lost.sum()),
        margin=float(margin),
        evidence=evidence if n else Evidence.NONE,
        champion_log_loss=_mean(champion.loss),
        challenger_log_loss=_mean(challenger.loss),
        gained_ids=[int(i) for i in names[gained][:LISTED]],
        lost_ids=[int(i) for i in names[lost][:LISTED]],
    )
    return decision if n < minimum else _judged(decision)


def keep_uncompared(challenger: Graded, why: str, margin: float = 0.0) -> GateDecision:
    """Keep a challenger that has no rival; ``why`` completes “Kept: …”."""
    return GateDecision(
        promote=True,
        reason=f"Kept: {why}.",
        n=challenger.right.size,
        champion_accuracy=None,
        challenger_accuracy=_mean(challenger.right),
        gained=0,
        lost=0,
        margin=margin,
        challenger_log_loss=_mean(challenger.loss),
    )


def paired_score(gained: int, lost: int, n: int, margin: float) -> float:
    """How far ``gained`` - ``lost`` of ``n`` pairs lies above a loss of ``margin``, in errors.

    Tango's score statistic for the difference of two paired proportions against -margin
    (*Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design*, 1998, eq. 4): approximately standard normal where the true difference is
    -margin, greater where it is greater. 0 where nothing can be told: no pair at all, or with a
    margin of 0 none that differs.
    """
    above = gained - lost + n * margin
    least = _likeliest_loss(gained, lost, n, -margin)
    variance = n * (2 * least - margin * (1 + margin))
    if variance > ROUNDING * n:
        return above / sqrt(variance)
    return copysign(inf, above) if abs(above) > ROUNDING * n else 0.0


def _likeliest_loss(gained: int, lost: int, n: int, difference: float) -> float:
    """The likeliest share of pairs that are lost, when gains minus losses are ``difference``."""
    if n == 0:
        return 0.0
    a = 2 * n
    b = -(gained + lost) + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    return (sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)


def _judged(decision: GateDecision) -> GateDecision:
    """The decision by the test, or by right answers and log loss where it shows nothing."""
    d = decision
    score = paired_score(d.gained, d.lost, d.n, d.margin)
    limit = float(-ndtri(ERROR_RATE))
    shown = Shown.NOTHING
    if score >= limit:
        shown = Shown.NOT_WORSE
    elif score <= -limit:
        shown = Shown.WORSE
    promote = (d.weak or _good_enough(d)) if shown is Shown.NOTHING else shown is Shown.NOT_WORSE
    judged = replace(d, promote=promote, shown=shown, score=score if isfinite(score) else None)
    return replace(judged, reason=_sentence(judged))


def _losses(d: GateDecision) -> tuple[float, float]:
    """Mean log loss of the champion and of the challenger."""
    assert d.champion_log_loss is not None
    assert d.challenger_log_loss is not None
    return d.champion_log_loss, d.challenger_log_loss


def _good_enough(d: GateDecision) -> bool:
    """Whether a challenger of which the test shows nothing may replace the champion."""
    before, after = _losses(d)
    return after <= before or (d.gained >= d.lost and exp(-after) >= exp(-before) - d.margin)


def _sentence(d: GateDecision) -> str:
    assert d.champion_accuracy is not None
    assert d.challenger_accuracy is not None
    right, before = (round(share * d.n) for share in (d.challenger_accuracy, d.champion_accuracy))
    return (
        f"{'Kept' if d.promote else 'Refused'}: {right} of {d.n} {_labels(d.evidence)} right "
        f"({d.challenger_accuracy:.1%}) against {before} ({d.champion_accuracy:.1%}) before, "
        f"{d.gained} gained and {d.lost} lost; {_conclusion(d)}"
        f"{f', as there are not {ENOUGH_HELD_OUT} held-out labels yet' if d.weak else ''}."
    )


def _conclusion(d: GateDecision) -> str:
    margin = f"{100 * d.margin:g} points"
    if d.shown is Shown.NOT_WORSE:
        return f"it is not worse by more than {margin}"
    if d.shown is Shown.WORSE:
        return f"it is worse by more than {margin}"
    if d.weak:
        return f"too few to see a loss of {margin}"
    before, after = _losses(d)
    losses = f"log loss {after:.3f} against {before:.3f}"
    return f"too few to see a loss of {margin} by counting, and {_sureness(d)} ({losses})"


def _sureness(d: GateDecision) -> str:
    before, after = _losses(d)
    if after <= before:
        return "it is as sure of the truth"
    if d.gained < d.lost:
        return "with fewer right it is less sure of the truth"
    by = "at most" if d.promote else "more than"
    return f"with no fewer right it is less sure of the truth by {by} that"


def _labels(evidence: Evidence) -> str:
    if evidence is Evidence.CROSS_VALIDATED:
        return "labels new to both"
    return "held-out labels"


def _check(
    before: NDArray[np.bool_], names: NDArray[np.int64], margin: float, minimum: int, n: int
) -> None:
    share("margin", margin)
    if minimum < 1:
        raise ArgumentError(f"minimum is {minimum!r}; at least 1 is needed.")
    if before.size != n or names.shape != (n,):
        raise ArgumentError(
            f"the champion is graded on {before.size} labels, the challenger on {n}, and ids has "
            f"shape {names.shape}; all must be about the same labels."
        )


def _mean(values: NDArray[np.generic]) -> float | None:
    return float(values.mean()) if values.size else None
