"""Exact L2-regularised linear classifiers, fast when there are fewer rows than dimensions.

The penalty is rotation-invariant, so the fit is done in the principal axes of the rows (at most
n - 1 of them), where the curvature is close to diagonal: L-BFGS scaled by that diagonal
converges in ten to thirty steps. The result is the one a fit in all d dimensions would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.descent import minimise
from model.parallel import blocks, each

Array = NDArray[np.float64]
AnyArray = NDArray[Any]

# Directions with less than this share of the largest variance are rounding noise.
_NULL_VARIANCE: Final = 1e-9
_TINY: Final = float(np.finfo(np.float32).tiny)
# So many multiplications take a moment in double precision; more are done in single, which halves
# their time, while sums stay in double.
EXACT: Final = 2_000_000_000
# From so many on, two threads save more than they cost.
_WORTH_THREADS: Final = 20_000_000
# Least mean of p (1 - p): a model that is sure of every row still has some curvature.
_LEAST_SPREAD: Final = 1e-3
_PARTS: Final = 2


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Rows in their own principal axes, scaled to a mean squared length of 1.

    ``scores``    (n, r) the rows, float64, or float32 where they are many
    ``variance``  (r,) sum of squares of each column of ``scores``
    ``basis``     (d, r) with scores = (rows - centre) @ basis
    ``centre``    (d,) mean row
    """

    scores: AnyArray
    variance: Array
    basis: Array
    centre: Array

    def unfold(self, weights: Array, bias: Array) -> tuple[Array, Array]:
        """(r, k) weights and (k,) bias on ``scores`` -> (d, k) and (k,) on the rows."""
        full = self.basis @ weights
        return full, bias - self.centre @ full


def principal_axes(rows: AnyArray, weights: Array | None = None) -> PrincipalAxes:
    """(n, d) finite rows -> their principal axes, by the smaller of the two Gram matrices.

    ``weights``, (n,) above 0: the mean of the squared lengths, which is scaled to 1, is that of
    the weighted rows, around their centre. A whole weight then stands for as many equal rows.
    """
    n, d = rows.shape
    wide = n <= d
    # Where there are more rows than dimensions the axes only turn the rows, which single precision
    # does as well; a wide Gram matrix must tell small variances from none.
    exact = wide or n * d * d <= EXACT
    own = rows.astype(np.float64 if exact else np.float32, copy=False)
    centre = own.mean(axis=0, dtype=np.float64)
    centred = own - centre.astype(own.dtype)
    variance, vectors = np.linalg.eigh(_gram(centred.T if wide else centred))
    kept = variance > max(_NULL_VARIANCE * float(variance[-1]), _TINY)
    variance, vectors = variance[kept].astype(np.float64), vectors[:, kept]
    scale = np.sqrt(n / variance.sum()) if variance.size else 1.0
    if wide:
        basis, scores = centred.T @ (vectors / np.sqrt(variance)), vectors * np.sqrt(variance)
        scores *= scale
    else:
        basis, scores = vectors, _turned(centred, vectors * vectors.dtype.type(scale))
    if weights is not None:
        more = _weighted_scale(scores, weights)
        scores, scale = scores * scores.dtype.type(more), scale * more
    return PrincipalAxes(
        scores, variance * scale**2, np.asarray(basis, dtype=np.float64) * scale, centre
    )


def _weighted_scale(scores: AnyArray, weights: Array) -> float:
    """By what to multiply, so that the weighted rows have a mean squared length of 1."""
    share = weights / weights.sum()
    spread = share @ np.square(scores - share @ scores).sum(axis=1, dtype=np.float64)
    return float(1 / np.sqrt(spread)) if spread > 0 else 1.0


def _gram(rows: AnyArray) -> AnyArray:
    """(n, d) rows -> (d, d) products of their columns."""
    n, d = rows.shape
    parts = each(
        lambda part: rows[part].T @ rows[part],
        blocks(n, _PARTS if n * d * d > _WORTH_THREADS else 1),
    )
    return np.asarray(sum(parts[1:], parts[0]))


def _turned(rows: AnyArray, vectors: AnyArray) -> AnyArray:
    n, r = len(rows), vectors.shape[1]
    parts = blocks(n, _PARTS if rows.size * r > _WORTH_THREADS else 1)
    found = np.empty((n, r), dtype=rows.dtype)

    def turn(part: slice) -> None:
        np.matmul(rows[part], vectors, out=found[part])

    each(turn, parts)
    return found


def fit_linear(
    axes: PrincipalAxes,
    targets: Array,
    included: Array,
    penalty: float,
    *,
    multiple: bool,
    start: Array | None = None,
    tolerance: float = 1e-3,
    offset: AnyArray | None = None,
) -> Array:
    """Fit f classifiers at once, each on its own share of the rows.

    Each minimises its summed log loss plus ``penalty / 2`` times its squared weights; the biases
    are not penalised. Solving them together makes one large matrix product of many thin ones, and
    each ends when it has arrived.

    ``targets``   (n, k) 0/1: one-hot rows for softmax, any for sigmoids
    ``included``  (n, f, 1) or (n, f, k) 0/1: which rows (and, for sigmoids, classes) each learns
    ``start``     (r + 1, f, k) solution of a nearby penalty
    ``tolerance`` slope at which a fit is done, in units of what chance alone makes of the labels
    ``offset``    (n, f, k) logits that are there already: only what to add to them is fitted
    Returns (r + 1, f, k): weights, then the bias, on ``axes.scores``.
    """
    f, k = included.shape[1], targets.shape[1]
    first = np.zeros((axes.scores.shape[1] + 1, f, k)) if start is None else start
    work = axes.scores.size * f * k
    precision = np.dtype(np.float64 if work <= EXACT // 1000 else np.float32)
    scores, wanted = axes.scores.astype(precision, copy=False), targets.astype(precision)

    def fitted(part: slice) -> Array:
        problem = _Problem(
            scores,
            axes.variance,
            wanted,
            included[:, part].astype(precision),
            None if offset is None else offset[:, part].astype(precision),
            penalty,
            multiple,
        )
        return problem.solve(first[:, part], tolerance)

    parts = blocks(f, _PARTS if work > _WORTH_THREADS else 1)
    return np.concatenate(each(fitted, parts), axis=1)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The losses of f models; all arrays are of one precision but ``variance``."""

    scores: AnyArray
    variance: Array
    targets: AnyArray
    included: AnyArray
    offset: AnyArray | None
    penalty: float
    multiple: bool

    def solve(self, start: Array, tolerance: float) -> Array:
        """(r + 1, f, k) solutions, from ``start`` on."""
        first = start.transpose(1, 0, 2).astype(self.scores.dtype)
        unit = self._unit(first)
        f, r1, k = first.shape

        def evaluate(points: AnyArray, which: NDArray[np.int64]) -> tuple[Array, AnyArray]:
            values, slopes = self._losses(points.reshape(-1, r1, k) / unit[which], which)
            slopes /= unit[which]
            return values, slopes.reshape(len(which), -1)

        found = minimise(evaluate, (first * unit).reshape(f, -1), tolerance=tolerance)
        return np.asarray((found.reshape(f, r1, k) / unit).transpose(1, 0, 2), dtype=np.float64)

    def _unit(self, weights: AnyArray) -> AnyArray:
        """(f, r + 1, k) root of each variable's curvature near ``weights``.

        For an axis it is the sum of p (1 - p) times its squared scores, of which the mean of
        p (1 - p) times the axis's variance is a good guess. A bound that holds for every p (1/2,
        Böhning 1992) is fifty times too high where a hundred classes share it.
        """
        logits = self._logits(weights, np.arange(len(weights)))
        p = expit(logits) if self.multiple else _softmax(logits)[0]
        spread = (p * (1 - p) * self.included).mean(axis=0, dtype=np.float64)
        sizes = np.append(self.variance, len(self.scores))[:, None]
        curvature = np.maximum(spread, _LEAST_SPREAD)[:, None, :] * sizes
        curvature[:, :-1] += self.penalty
        return np.asarray(np.sqrt(curvature), dtype=self.scores.dtype)

    def _losses(self, weights: AnyArray, which: NDArray[np.int64]) -> tuple[Array, AnyArray]:
        """(a,) values and (a, r + 1, k) slopes of the models at (a,) positions."""
        a, _, k = weights.shape
        included = self.included if a == self.included.shape[1] else self.included[:, which]
        loss, residual = _log_loss(self._logits(weights, which), self.targets, self.multiple)
        loss *= included
        residual *= included
        slopes = np.empty_like(weights)
        pull = self.scores.T @ residual.reshape(-1, a * k)
        slopes[:, :-1] = pull.reshape(-1, a, k).transpose(1, 0, 2)
        slopes[:, :-1] += self.penalty * weights[:, :-1]
        slopes[:, -1] = residual.sum(axis=0, dtype=np.float64)
        decay = np.square(weights[:, :-1]).sum(axis=(1, 2), dtype=np.float64)
        return loss.sum(axis=(0, 2), dtype=np.float64) + self.penalty / 2 * decay, slopes

    def _logits(self, weights: AnyArray, which: NDArray[np.int64]) -> AnyArray:
        """(n, a, k)"""
        a, r1, k = weights.shape
        flat = weights.transpose(1, 0, 2).reshape(r1, a * k)
        logits = self.scores @ flat[:-1]
        logits += flat[-1]
        logits = logits.reshape(-1, a, k)
        if self.offset is not None:
            logits += self.offset if a == self.offset.shape[1] else self.offset[:, which]
        return logits


def _log_loss(logits: AnyArray, targets: AnyArray, multiple: bool) -> tuple[AnyArray, AnyArray]:
    """Log loss, (n, a, 1) for softmax or (n, a, k), and its slope in the logits, (n, a, k)."""
    wanted = targets[:, None, :]
    if multiple:
        return np.logaddexp(0.0, logits) - wanted * logits, expit(logits) - wanted
    residual, log_total = _softmax(logits)
    true = np.take_along_axis(logits, wanted.argmax(axis=2)[:, :, None], axis=2)
    residual -= wanted
    return log_total - true, residual


def _softmax(logits: AnyArray) -> tuple[AnyArray, AnyArray]:
    """(n, a, k) probabilities, and the (n, a, 1) logarithms of what the powers sum to."""
    largest = logits.max(axis=2, keepdims=True)
    powers = logits - largest
    np.exp(powers, out=powers)
    total = powers.sum(axis=2, keepdims=True)
    powers /= total
    return powers, np.log(total) + largest
