"""Many smooth convex functions of the same size, minimised side by side.

Each goes its own way by L-BFGS (Nocedal, *Updating Quasi-Newton Matrices with Limited Storage*,
1980) and leaves when it has arrived; what they share is the call that evaluates them, which is
several times cheaper for all at once than for each alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_STEPS = 200
LOSS_TOLERANCE = 1e-5
MEMORY = 10
# Armijo's condition, and how often a step that misses it is shortened.
_SUFFICIENT = 1e-4
_SHORTENINGS = 12

Evaluate = Callable[[Array, NDArray[np.int64]], tuple[NDArray[np.float64], Array]]
"""(a, p) points of the functions at (a,) positions -> their (a,) values and (a, p) slopes."""


def minimise(evaluate: Evaluate, start: Array, *, tolerance: float) -> Array:
    """The (f, p) points where f functions are least, from the (f, p) points ``start`` on.

    A function has arrived when no slope is above ``tolerance``, when a step gains less than 1e-5
    of its value (less than ten times the square of a ``tolerance`` below 1e-3: what such slopes
    are worth), or after 200 steps. The variables should be scaled so that each has a curvature
    near 1.
    """
    points = start.copy()
    enough = min(LOSS_TOLERANCE, 10 * tolerance**2)
    values, slopes = evaluate(points, np.arange(len(points)))
    state = _State(np.arange(len(points)), points.copy(), values, slopes)
    state.keep(~_flat(slopes, tolerance))
    for _ in range(MAX_STEPS):
        if not state.which.size:
            break
        before = state.values
        moved = state.step(evaluate)
        points[state.which] = state.points
        gained = before - state.values
        slow = gained <= enough * np.maximum(np.abs(state.values), 1)
        state.keep(moved & ~slow & ~_flat(state.slopes, tolerance))
    return points


@dataclass
class _State:
    """The functions that are still under way: (a,) which, and where each stands."""

    which: NDArray[np.int64]
    points: Array
    values: NDArray[np.float64]
    slopes: Array
    history: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Let go of the functions that are not ``kept``."""
        if kept.all():
            return
        self.which, self.points = self.which[kept], self.points[kept]
        self.values, self.slopes = self.values[kept], self.slopes[kept]
        self.history = [(s[kept], y[kept], r[kept]) for s, y, r in self.history]

    def step(self, evaluate: Evaluate) -> NDArray[np.bool_]:
        """Go one step; (a,) which functions found one."""
        direction = self._direction()
        descent = _dots(direction, self.slopes)
        uphill = descent >= 0
        direction[uphill] = -self.slopes[uphill]
        descent[uphill] = -_dots(self.slopes[uphill], self.slopes[uphill])
        points, values, slopes, missed = self._search(evaluate, direction, descent)
        self._remember(points - self.points, slopes - self.slopes)
        self.points, self.values, self.slopes = points, values, slopes
        return ~missed

    def _direction(self) -> Array:
        """Nocedal and Wright, *Numerical Optimization* (2006), algorithm 7.4, downhill."""
        pull, shares = self.slopes.copy(), []
        for step, change, inverse in reversed(self.history):
            share = inverse * _dots(step, pull)
            pull -= share[:, None] * change
            shares.append(share)
        if self.history:
            step, change, _ = self.history[-1]
            size = _dots(change, change)
            curvature = _dots(step, change)
            known = (size > 0) & (curvature > 0)
            pull *= np.where(known, curvature / np.where(known, size, 1), 1)[:, None]
        for (step, change, inverse), share in zip(self.history, reversed(shares), strict=True):
            pull += (share - inverse * _dots(change, pull))[:, None] * step
        return -pull

    def _search(
        self, evaluate: Evaluate, direction: Array, descent: Array
    ) -> tuple[Array, NDArray[np.float64], Array, NDArray[np.bool_]]:
        """Shorten each step until it gains enough; one that never does stays where it was."""
        length = np.ones(len(direction), dtype=direction.dtype)
        points = self.points + direction
        values, slopes = evaluate(points, self.which)
        missed = ~(values <= self.values + _SUFFICIENT * descent)
        for _ in range(_SHORTENINGS):
            w = np.flatnonzero(missed)
            if not w.size:
                break
            length[w] *= _shorter(self.values[w], values[w], length[w] * descent[w])
            points[w] = self.points[w] + length[w, None] * direction[w]
            values[w], slopes[w] = evaluate(points[w], self.which[w])
            missed[w] = ~(values[w] <= self.values[w] + _SUFFICIENT * length[w] * descent[w])
        points[missed], slopes[missed] = self.points[missed], self.slopes[missed]
        values[missed] = self.values[missed]
        return points, values, slopes, missed

    def _remember(self, step: Array, change: Array) -> None:
        curvature = _dots(step, change)
        known = curvature > 0
        inverse = np.where(known, 1 / np.where(known, curvature, 1), 0).astype(step.dtype)
        self.history = [*self.history[1 - MEMORY :], (step, change, inverse)]


def _shorter(before: Array, after: Array, descent: Array) -> Array:
    """By how much to shorten steps: to the lowest point of a parabola, within reason."""
    with np.errstate(all="ignore"):
        best = -descent / (2 * (after - before - descent))
    return np.clip(np.where(np.isfinite(best), best, 0.1), 0.1, 0.5)


def _dots(one: Array, other: Array) -> Array:
    """(a, p) and (a, p) -> the (a,) dot products of their rows."""
    return np.asarray((one[:, None, :] @ other[:, :, None])[:, 0, 0])


def _flat(slopes: Array, tolerance: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(slopes).max(axis=1, initial=0) <= tolerance)
