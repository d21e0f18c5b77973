"""Labels still needed for a target accuracy, as a range that says how much is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, floor, isfinite, log10

import numpy as np

from model.errors import ArgumentError
from model.learning_curve import (
    HORIZON,
    Array,
    AuditPoint,
    LearningCurve,
    fit_learning_curve,
    usable,
)
from model.percents import percent
from model.plurals import counted

MINIMUM_VERSIONS = 3
"""Usable versions below which nothing is forecast."""
MINIMUM_AUDITED = 30
"""Audit labels of the last version below which nothing is forecast."""
OUTSIDE = 0.2
"""Share of the likely curves that a statement need not hold for."""
TELLING = 0.1
"""An open range tells something when its low end is at least this share of the labels by now."""


SMALLEST_GAP = 0.02
"""More audit labels are not asked for to tell apart less than this."""
QUANTILE = 1.2816
"""Of the standard normal, at 90%."""


class Outlook(StrEnum):
    """What can be said of a target."""

    REACHED = "reached"
    RANGE = "range"
    MORE_THAN = "more than"
    NOT_IN_SIGHT = "not in sight"
    CANNOT_TELL = "cannot tell yet"


@dataclass(frozen=True)
class Forecast:
    """More labels until the accuracy first reaches ``target``.

    ``low``, ``high``  the range, rounded outwards; ``high`` None for no end within the horizon,
                       ``low`` None too where not even the low end is within it
    ``labels``         labels learned from by now
    ``audited``        audit labels that the newest version was judged on
    ``reached``        probability that the target is reached by now; None where nothing was fitted
    ``why_not``        why it cannot be told, without a full stop; empty otherwise
    """

    target: float
    outlook: Outlook
    low: int | None
    high: int | None
    labels: int
    audited: int
    reached: float | None = None
    why_not: str = ""

    @property
    def sentence(self) -> str:
        """The forecast in one sentence."""
        return _WORDS[self.outlook](self)


def forecast(
    points: Sequence[AuditPoint], targets: Iterable[float], *, seed: int = 0
) -> list[Forecast]:
    """One forecast for each target accuracy in (0, 1), from the versions in order of time.

    Every statement holds for at least 80% of the likely curves (:mod:`model.learning_curve`), so in
    four cases of five or more it should be true; how often it was is in docs/forecast.md. A range
    leaves out a tenth of the curves on either side; where more than a tenth are at the target by
    now, or never get there within the horizon, it is open on that side and leaves out a fifth on
    the other. Reached, and not in sight, means that four fifths are, or are not. A higher target
    never has a smaller ``low`` or ``high``. Versions on another backbone have a curve of their own
    and must be left out. ArgumentError for a target outside (0, 1).
    """
    return look_ahead(points, targets, seed=seed)[0]


def look_ahead(
    points: Sequence[AuditPoint], targets: Iterable[float], *, seed: int = 0
) -> tuple[list[Forecast], LearningCurve | None]:
    """:func:`forecast`, and the curve that it was read from; None where none fits."""
    wanted = [_checked(target) for target in targets]
    missing = _missing(points)
    if missing:
        return [_unknown(target, points, missing) for target in wanted], None
    curve = fit_learning_curve(points, seed=seed)
    if not curve.fits:
        odd = "its accuracy has not risen with the labels as a learning curve does"
        return [_unknown(target, points, odd) for target in wanted], None
    return [read_curve(curve, target) for target in wanted], curve


def read_curve(curve: LearningCurve, target: float) -> Forecast:
    """The forecast for ``target``, in (0, 1), that the likely curves give; see :func:`forecast`."""
    needed = curve.labels_needed(target)
    low, high = _ends(needed)
    now = curve.now
    outlook, why = _outlook(low, high, now.labels), ""
    if outlook is Outlook.CANNOT_TELL:
        why = _too_wide(curve, target)
    return Forecast(
        target=target,
        outlook=outlook,
        low=_rounded(low, up=False),
        high=_rounded(high, up=True),
        labels=now.labels,
        audited=now.audited,
        reached=float((needed == 0).mean()),
        why_not=why,
    )


def _checked(target: float) -> float:
    if not 0 < target < 1:
        raise ArgumentError(f"targets holds {target!r}; (0, 1) is allowed.")
    return float(target)


def _missing(points: Sequence[AuditPoint]) -> str:
    """What there is too little of, and how much more is needed; empty when there is enough."""
    audit_labels = MINIMUM_AUDITED - (points[-1].audited if points else 0)
    versions = MINIMUM_VERSIONS - len(usable(points))
    if audit_labels > 0:
        # Until these are there the versions come by themselves.
        lacking = counted(audit_labels, "more audit label")
    elif versions > 0:
        lacking = f"{counted(versions, 'more version')} with new labels"
    else:
        return ""
    return f"at least {lacking} {'is' if lacking.startswith('1 ') else 'are'} needed"


def _unknown(target: float, points: Sequence[AuditPoint], why: str) -> Forecast:
    labels, audited = (points[-1].labels, points[-1].audited) if points else (0, 0)
    return Forecast(target, Outlook.CANNOT_TELL, 0, None, labels, audited, why_not=why)


def _ends(needed: Array) -> tuple[float, float]:
    """The range of (m,) ascending needs. Neither end falls when no need does."""
    low, high = _at(needed, OUTSIDE / 2), _at(needed, 1 - OUTSIDE / 2)
    if low == 0:
        high = _at(needed, 1 - OUTSIDE)
    if not isfinite(high):
        low = _at(needed, OUTSIDE)
    return low, high


def _at(ascending: Array, share: float) -> float:
    """The value that this share of the values lies below."""
    return float(ascending[min(int(share * len(ascending)), len(ascending) - 1)])


def _outlook(low: float, high: float, labels: int) -> Outlook:
    if not isfinite(low):
        return Outlook.NOT_IN_SIGHT
    if high == 0:
        return Outlook.REACHED
    if isfinite(high):
        return Outlook.RANGE
    return Outlook.MORE_THAN if low >= TELLING * labels else Outlook.CANNOT_TELL


def _too_wide(curve: LearningCurve, target: float) -> str:
    """Why an open range tells nothing, and how many more audit labels may tell."""
    accuracy = np.sort(curve.accuracy())
    low, middle, high = (_at(accuracy, share) for share in (0.1, 0.5, 0.9))
    why = (
        f"{curve.now.audited} audit labels leave its accuracy by now between {low:.0%} and "
        f"{high:.0%}"
    )
    gap = max(abs(target - middle), SMALLEST_GAP)
    more = ceil(QUANTILE**2 * middle * (1 - middle) / gap**2) - curve.now.audited
    return f"{why}; about {_rounded(more, up=True):,} more may tell" if more > 0 else why


def _rounded(number: float, *, up: bool) -> int | None:
    """To tens, or from 1,000 on to two digits, outwards; None for infinity."""
    if not isfinite(number):
        return None
    unit = 10 ** max(1, int(log10(number)) - 1) if number >= 1 else 10
    return int((ceil if up else floor)(number / unit) * unit)


def _reached_words(f: Forecast) -> str:
    assert f.reached is not None
    return (
        f"{percent(f.target)}% is reached by now, with {f.labels:,} labels "
        f"({min(f.reached, 0.99):.0%} sure)."
    )


def _range_words(f: Forecast) -> str:
    assert f.low is not None
    assert f.high is not None
    if f.low == 0:
        return f"{percent(f.target)}% may be reached already, or take up to {f.high:,} more labels."
    return f"{percent(f.target)}% takes about {f.low:,} to {f.high:,} more labels."


def _more_words(f: Forecast) -> str:
    assert f.low is not None
    if f.low == 0:
        return f"{percent(f.target)}% may be reached already, or perhaps cannot be had."
    return f"{percent(f.target)}% takes more than {f.low:,} more labels, and perhaps cannot be had."


def _never_words(f: Forecast) -> str:
    return (
        f"This model may not get to {percent(f.target)}%: by its learning curve, "
        f"{HORIZON} times the {f.labels:,} labels by now would not do."
    )


def _unknown_words(f: Forecast) -> str:
    return f"Cannot tell yet what {percent(f.target)}% takes: {f.why_not}."


_WORDS: dict[Outlook, Callable[[Forecast], str]] = {
    Outlook.REACHED: _reached_words,
    Outlook.RANGE: _range_words,
    Outlook.MORE_THAN: _more_words,
    Outlook.NOT_IN_SIGHT: _never_words,
    Outlook.CANNOT_TELL: _unknown_words,
}
