"""How far people follow a choice that is ticked for them: automation bias, with its interval.

Of the images that a queue serves, some are drawn by chance and shown without the ticked choice. The
two groups differ in nothing else, so where people differ from the model less often when they see
its choice, the choice has swayed them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

from model.error_bounds import error_bound
from model.errors import ArgumentError
from model.metrics import wilson_interval

Verdict = Literal["follows", "opposes", "no difference seen", "cannot tell yet"]


@dataclass(frozen=True)
class Differing:
    """How many of ``n`` first answers ``differ`` from what the model said.

    ``value``, ``low``, ``high``  the share in [0, 1] with its exact 95% interval; None without
                                  answers
    """

    differ: int
    n: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Swayed:
    """People who saw the ticked choice beside people who did not.

    ``difference``  share of ``blind`` minus that of ``ticked``, in [-1, 1], with its 95% interval
                    from ``low`` to ``high``; None where either has no answers
    ``verdict``     ``follows`` where people differ less when they see the choice, ``opposes`` where
                    they differ more, both only where the interval leaves 0 out
    """

    ticked: Differing
    blind: Differing
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


def exact_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval for a share of which ``count`` of ``n`` were seen, within [0, 1].

    Clopper and Pearson, *The Use of Confidence or Fiducial Limits* (1934): each end leaves half of
    1 - ``confidence``, by :func:`model.error_bounds.error_bound`. (0, 1) when ``n`` is 0.
    ArgumentError when ``count`` is not in 0..n or ``confidence`` not in (0, 1).
    """
    one_sided = (1 + confidence) / 2
    high = error_bound(count, n, one_sided)
    return 1 - error_bound(n - count, n, one_sided), high


def difference_interval(
    first: int, of_first: int, second: int, of_second: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval for the share ``first / of_first`` minus the share ``second / of_second``.

    Newcombe, *Interval Estimation for the Difference Between Independent Proportions* (1998),
    method 10: with Wilson's ends l and u of each share p and d = p1 - p2, from
    d - sqrt((p1 - l1)^2 + (u2 - p2)^2) to d + sqrt((u1 - p1)^2 + (p2 - l2)^2). Within [-1, 1].
    ArgumentError when a share is of nothing, or the counts do not fit.
    """
    if not (of_first > 0 and of_second > 0):
        raise ArgumentError(
            f"of_first is {of_first!r} and of_second {of_second!r}; both must be above 0."
        )
    low1, high1 = wilson_interval(first, of_first, confidence)
    low2, high2 = wilson_interval(second, of_second, confidence)
    p1, p2 = first / of_first, second / of_second
    below = sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2)
    above = sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2)
    return p1 - p2 - below, p1 - p2 + above


def differing(differ: int, n: int) -> Differing:
    """A share with its exact interval. ArgumentError when ``differ`` is not in 0..n."""
    low, high = exact_interval(differ, n)
    if n == 0:
        return Differing(0, 0, None, None, None)
    return Differing(differ, n, differ / n, low, high)


def swayed(changed: int, ticked: int, differed: int, blind: int) -> Swayed:
    """Compare answers: ``changed`` of ``ticked`` were changed, and ``differed`` of ``blind`` ones
    are not what would have been ticked. ArgumentError when the counts do not fit."""
    seen, unseen = differing(changed, ticked), differing(differed, blind)
    if seen.value is None or unseen.value is None:
        return Swayed(seen, unseen, None, None, None, "cannot tell yet")
    low, high = difference_interval(differed, blind, changed, ticked)
    verdict: Verdict = "no difference seen"
    if low > 0:
        verdict = "follows"
    elif high < 0:
        verdict = "opposes"
    return Swayed(seen, unseen, unseen.value - seen.value, low, high, verdict)
