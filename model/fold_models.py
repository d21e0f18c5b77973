"""The models of a cross-validation: one for each fold, fitted without it, and one of all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.linear import PrincipalAxes, fit_linear
from model.pool_prior import PoolPrior

Array = NDArray[np.float64]
AnyArray = NDArray[Any]

FOLDS, ALL = slice(0, -1), slice(-1, None)
"""The models of the folds, and that of all rows, which is the last."""


class Shares:
    """What the pool says of n labelled rows, to each of f models, and the maps that say it."""

    def __init__(self, pool: PoolPrior, rows: AnyArray, flags: Array, included: Array) -> None:
        own = rows.astype(np.float32, copy=False)
        self.weights, self.bias = pool.directions(pool.seeds(own), flags, included)
        self.logits = np.stack(
            [own @ part + bias for part, bias in zip(self.weights, self.bias, strict=True)], axis=1
        )


@dataclass(frozen=True, eq=False)
class FoldModels:
    """The rows in their axes, what each model learns of them, and what the pool adds. The last
    model learns every row, the others each leave a fold out."""

    axes: PrincipalAxes
    flags: Array
    included: Array
    multiple: bool
    shares: Shares | None

    def fit(
        self, models: slice, penalty: float, trust: float, start: Array | None, tolerance: float
    ) -> Array:
        """The solutions of some of the models, from a nearby one on where there is one."""
        included, first = self.start(models)
        offset = None
        if self.shares is not None and trust:
            offset = trust * self.shares.logits[:, models]
        return fit_linear(
            self.axes,
            self.flags,
            included,
            penalty,
            multiple=self.multiple,
            start=first if start is None else start,
            tolerance=tolerance,
            offset=offset,
        )

    def out_of_fold(self, solution: Array, tested: NDArray[np.int64], trust: float) -> Array:
        """(n, k) logits of the tested rows by the model of their fold; NaN in the others."""
        logits = np.full((len(tested), solution.shape[2]), np.nan)
        for fold in range(solution.shape[1]):
            held = tested == fold
            logits[held] = self.axes.scores[held] @ solution[:-1, fold] + solution[-1, fold]
            if self.shares is not None:
                logits[held] += trust * self.shares.logits[held, fold]
        return logits

    def middle(self, solution: Array) -> Array:
        """(r + 1, 1, k) where the model of all rows starts: amid those of the folds. A class that
        none of them could learn, it may."""
        included, first = self.start(slice(None))
        learned = included.max(axis=0)[FOLDS] > 0
        total = (solution * learned).sum(axis=1, keepdims=True)
        amid = total / np.maximum(learned.sum(axis=0), 1)
        return np.where(learned.any(axis=0), amid, first[:, ALL])

    def whole(self, solution: Array, trust: float) -> tuple[Array, Array]:
        """(d, k) weights and (k,) bias on the rows, from the (r + 1, 1, k) solution of all."""
        weights, bias = self.axes.unfold(solution[:-1, 0], solution[-1, 0])
        if self.shares is None:
            return weights, bias
        return weights + trust * self.shares.weights[-1], bias + trust * self.shares.bias[-1]

    def start(self, models: slice) -> tuple[Array, Array]:
        """What each model may learn, and where it starts."""
        included, k = self.included[:, models], self.flags.shape[1]
        start: Array = np.zeros((self.axes.scores.shape[1] + 1, included.shape[1], k))
        if not self.multiple:
            return included, start
        included, start[-1] = _learned_classes(self.flags > 0, included)
        return included, start


def learned_rows(n: int, folds: NDArray[np.int64] | None) -> Array:
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
