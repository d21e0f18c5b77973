"""A learning curve with its doubt: counts of right audit answers in, likely futures out.

Bayesian, by importance sampling: curves of several families are drawn from a prior, each weighs as
much as it makes the counts likely, and what is left is a crowd of curves that agree with the
counts. Where the counts say little the crowd is wide, and so is every range that is read from it.
Families compete in the same crowd, so their disagreement is part of the width.

*The counts.* A share p of a audit images is y = 2 arcsin sqrt(p) with a spread of 1 / sqrt(a),
whatever p is (Anscombe 1948). Successive versions are asked about nearly the same images, and
mostly are right on the same ones, so their errors go together: the covariance of two versions is

    r(x) / max(a_i, a_j),    r(x) = 0.95 / (1 + 0.55 x),   x = |ln(n_i / n_j)|,

for audit sets of which the smaller is part of the larger, and labels learned from n_i and n_j. The
correlation r of being right on the same image was measured (docs/forecast.md). To leave it out
would be bold in the level, which would seem to be measured many times over, and timid in the slope.

*The curve.* No model follows a curve exactly: each version strays by a little (``JITTER``), and the
truth wanders off the family's shape the farther it is from now, back and ahead, as a random walk in
ln n whose spread grows by ``WANDER`` for each factor of e.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import chdtrc

from model.curve_families import FAMILIES
from model.errors import ArgumentError

Array = NDArray[np.float64]

HORIZON = 20
"""How many times the labels by now a curve is followed."""
WINDOW = 8
"""Versions that learned from fewer than a WINDOW-th of the labels by now are left out: the steep
beginning of a curve says little of its end."""
LEAST_AUDITED = 10
"""Versions judged on fewer audit labels are left out."""
MOST_POINTS = 30
CORRELATION, DECAY = 0.95, 0.55
MISFIT = 0.001
"""Points that stray so far from every curve once in so many cases are not a learning curve."""
WANDER, JITTER = 0.04, 0.01
_DRAWS, _KEPT, _STEPS = 6000, 4000, 120
# The level is proposed around what was last seen, wider than the counts allow.
_WIDER = 1.3


@dataclass(frozen=True)
class AuditPoint:
    """One version: ``labels`` it learned from, and ``right`` answers on ``audited`` audit labels.

    ArgumentError unless 0 <= right <= audited and labels >= 1.
    """

    labels: int
    right: int
    audited: int

    def __post_init__(self) -> None:
        if self.labels < 1 or not 0 <= self.right <= self.audited:
            raise ArgumentError(
                f"{self} cannot be; labels of 1 or more and 0 <= right <= audited are needed."
            )


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """What may come, as ``m`` equally likely curves.

    ``points``  those that were fitted, by ascending labels; the last is the version by now
    ``grid``    (g,) numbers of labels, from now to ``HORIZON`` times as many
    ``trend``   (m, g) accuracy by the family alone, never falling
    ``best``    (m, g) the best accuracy so far, with the wandering
    ``fits``    whether some curve of a family comes near the points
    """

    points: tuple[AuditPoint, ...]
    grid: Array
    trend: Array
    best: Array
    fits: bool

    @property
    def now(self) -> AuditPoint:
        """The version by now."""
        return self.points[-1]

    def labels_needed(self, target: float) -> Array:
        """(m,) more labels until each curve first reaches ``target``, ascending; inf for never.

        Never means not within the horizon. For a higher target no entry is smaller.
        """
        reached = self.best >= target
        needed = np.where(
            reached.any(axis=1), self.grid[reached.argmax(axis=1)] - self.grid[0], np.inf
        )
        return np.sort(needed)

    def accuracy(self, more: float = 0) -> Array:
        """(m,) accuracy by the trend after ``more`` labels, within the horizon."""
        at = np.interp(np.log(self.grid[0] + more), np.log(self.grid), np.arange(len(self.grid)))
        below = min(int(at), len(self.grid) - 2)
        share = at - below
        return np.asarray((1 - share) * self.trend[:, below] + share * self.trend[:, below + 1])


def usable(points: Sequence[AuditPoint]) -> tuple[AuditPoint, ...]:
    """The points, in order of time, that tell of the curve; by ascending labels.

    Left out are versions with more labels than the last (labels were taken away since), with fewer
    than ``LEAST_AUDITED`` audit labels or than a ``WINDOW``-th of the labels, and all but the last
    with the same labels. Of more than ``MOST_POINTS``, those evenly apart in ln n are kept.
    """
    if not points:
        return ()
    last = points[-1]
    fits = [
        p
        for p in points
        if p.audited >= LEAST_AUDITED
        and last.labels <= p.labels * WINDOW
        and p.labels <= last.labels
    ]
    kept = sorted({p.labels: p for p in fits}.values(), key=lambda p: p.labels)
    if len(kept) <= MOST_POINTS:
        return tuple(kept)
    places = np.log([p.labels for p in kept])
    wanted = np.linspace(places[0], places[-1], MOST_POINTS)
    chosen = np.abs(places[:, None] - wanted).argmin(axis=0)
    return tuple(kept[i] for i in np.unique(chosen))


def fit_learning_curve(points: Sequence[AuditPoint], *, seed: int = 0) -> LearningCurve:
    """Fit the usable ones of the ``points``, in order of time; ``seed`` fixes the draws.

    ArgumentError when none is usable.
    """
    used = usable(points)
    if not used:
        raise ArgumentError(f"points holds {len(points)} versions, none of which is usable.")
    generator = np.random.default_rng(seed)
    labels = np.array([p.labels for p in used], dtype=np.float64)
    seen = angle(np.array([(p.right + 0.375) / (p.audited + 0.75) for p in used]))
    root = np.linalg.cholesky(covariance(used))
    grid = np.geomspace(labels[-1], labels[-1] * HORIZON, _STEPS)
    distances, logs, futures = [], [], []
    for family in FAMILIES.values():
        level, log_weight = _levels(seen[-1], np.sqrt((root[-1] ** 2).sum()), generator)
        errors = family(labels[-1], np.cos(level / 2) ** 2, generator)
        residuals = solve_triangular(root, (seen - angle(1 - errors(labels))).T, lower=True)
        distances.append((residuals**2).sum(axis=0))
        logs.append(log_weight - distances[-1] / 2)
        futures.append(angle(1 - errors(grid)))
    log_weights = np.concatenate(logs)
    weights = np.exp(log_weights - log_weights.max())
    kept = generator.choice(len(weights), _KEPT, p=weights / weights.sum())
    trend = np.concatenate(futures)[kept]
    best = np.maximum.accumulate(trend + _wandering(grid, generator), axis=1)
    nearest = min(float(found.min()) for found in distances)
    fits = bool(chdtrc(len(used), nearest) >= MISFIT)
    return LearningCurve(used, grid, _accuracy(trend), _accuracy(best), fits)


def covariance(points: Sequence[AuditPoint]) -> Array:
    """(p, p) covariance of the points' angles around a curve of a family."""
    audited = np.array([p.audited for p in points], dtype=np.float64)
    place = np.log([p.labels for p in points])
    same = CORRELATION / (1 + DECAY * np.abs(place[:, None] - place))
    np.fill_diagonal(same, 1)
    sampled = same / np.maximum(audited[:, None], audited)
    back = place[-1] - place
    wandered = WANDER**2 * np.minimum(back[:, None], back)
    return np.asarray(sampled + wandered + JITTER**2 * np.eye(len(points)))


def angle(accuracy: Array) -> Array:
    """2 arcsin sqrt(p): a share as an angle in [0, pi]; shares outside [0, 1] are clipped."""
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(accuracy, 0, 1))), dtype=np.float64)


def _accuracy(angles: Array) -> Array:
    return np.asarray(np.sin(np.clip(angles, 0, np.pi) / 2) ** 2, dtype=np.float64)


def _levels(seen: float, spread: float, generator: np.random.Generator) -> tuple[Array, Array]:
    """Angles by now, proposed around the last seen, and the log weights that make them uniform."""
    offset = generator.standard_normal(_DRAWS)
    level = seen + _WIDER * spread * offset
    inside = (level > 0.01) & (level < np.pi - 0.01)
    return np.clip(level, 0.01, np.pi - 0.01), np.where(inside, offset**2 / 2, -np.inf)


def _wandering(grid: Array, generator: np.random.Generator) -> Array:
    """(m, g) random walks in the logarithm of the labels, from 0 on."""
    steps = WANDER * np.sqrt(np.diff(np.log(grid)))
    walks = np.cumsum(generator.standard_normal((_KEPT, len(steps))) * steps, axis=1)
    return np.hstack([np.zeros((_KEPT, 1)), walks])
