"""Embeddings and labels in, a calibrated linear classifier out, in seconds.

Embeddings are power-normalised row by row before anything else (see :func:`power_normalise`), both
when fitting and when predicting; nothing is learned about their scale, so a head needs no numbers
beyond its weights, bias and temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import (
    class_flags,
    class_positions,
    embedding_matrix,
    row_flags,
    row_weights,
    whole_numbers,
)
from model.crossfit import CrossFit, calibrated, cross_fit
from model.errors import ArgumentError
from model.folds import class_folds, flag_folds
from model.head_metrics import measure, unmeasured
from model.pool_prior import PoolPrior
from model.thresholds import NEUTRAL, check_thresholds, fit_thresholds

FloatArray = NDArray[np.float32]
Array = NDArray[np.float64]

FOLDS = 5
# Logit of a class without any label: its probability is 0 at every temperature allowed.
ABSENT_LOGIT = -1e4
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier on embeddings, with its calibration.

    ``classes``      k names, in the order of every (n, k) array
    ``multiple``     False: one softmax over the classes; True: one sigmoid per class
    ``weights``      (d, k) float32
    ``bias``         (k,) float32
    ``temperature``  (1,) float32 for softmax, (k,) for sigmoids; above 0
    ``thresholds``   with ``multiple`` (k,) float32 in (0, 1]: a class is said from this calibrated
                     probability on; 1/2 where none are given. None without ``multiple``
    """

    classes: tuple[str, ...]
    multiple: bool
    weights: FloatArray
    bias: FloatArray
    temperature: FloatArray
    thresholds: FloatArray | None = None

    def __post_init__(self) -> None:
        k = len(self.classes)
        if self.weights.ndim != 2 or self.weights.shape[1] != k:
            raise ArgumentError(f"weights has shape {self.weights.shape}; (d, {k}) is needed.")
        if self.bias.shape != (k,):
            raise ArgumentError(f"bias has shape {self.bias.shape}; ({k},) is needed.")
        wanted = (k,) if self.multiple else (1,)
        if self.temperature.shape != wanted:
            raise ArgumentError(
                f"temperature has shape {self.temperature.shape}; {wanted} is needed."
            )
        if self.multiple and self.thresholds is None:
            object.__setattr__(self, "thresholds", np.full(k, NEUTRAL, dtype=np.float32))
        check_thresholds(self.thresholds, wanted if self.multiple else None)

    def logits(self, embeddings: ArrayLike, *, normalised: bool = False) -> FloatArray:
        """(n, d) embeddings of any float type -> (n, k) float32 logits, before the temperature.

        ``normalised``: the rows come from :func:`power_normalise` already, which saves most of the
        time where the same ones are asked about often.

        ArgumentError when the width is not d or a value is NaN or infinite.
        """
        rows = embedding_matrix(embeddings, width=self.weights.shape[0])
        result = np.empty((len(rows), len(self.classes)), dtype=np.float32)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            block = block if normalised else power_normalise(block)
            result[start : start + _BLOCK] = block @ self.weights + self.bias
        return result

    def probabilities(self, embeddings: ArrayLike, *, normalised: bool = False) -> FloatArray:
        """(n, d) embeddings -> (n, k) float32 calibrated probabilities in [0, 1].

        Softmax rows that sum to 1, or with ``multiple`` one sigmoid for each class. ``normalised``
        as in :meth:`logits`.
        """
        logits = self.logits(embeddings, normalised=normalised)
        return calibrated(logits, self.temperature, self.multiple).astype(np.float32)

    def to_arrays(self) -> dict[str, FloatArray]:
        """The numbers of the head, for storage, by the names of the fields."""
        arrays = {"weights": self.weights, "bias": self.bias, "temperature": self.temperature}
        return arrays if self.thresholds is None else arrays | {"thresholds": self.thresholds}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], classes: Sequence[str], multiple: bool
    ) -> Head:
        """The head whose :meth:`to_arrays` gave ``arrays``. ArgumentError when they do not fit.

        Heads of several classes that were stored without thresholds have 1/2.
        """
        missing = sorted({"weights", "bias", "temperature"} - set(arrays))
        if missing:
            raise ArgumentError(f"arrays has no {', '.join(missing)}; a head needs all three.")
        numbers = {
            name: np.ascontiguousarray(arrays[name], dtype=np.float32)
            for name in ("weights", "bias", "temperature", "thresholds")
            if name in arrays
        }
        return cls(classes=tuple(classes), multiple=multiple, **numbers)


@dataclass(frozen=True, eq=False)
class HeadFit:
    """A fitted head and how it did on labels it had not seen.

    ``out_of_fold``  (n, k) float64 calibrated probabilities of each row by a model fitted without
                     it. NaN in every row that was not tested: the only label of its class, or not
                     honest. None when nothing could be: fewer than two classes with two labels
                     each, or with ``multiple`` fewer than four rows.
    ``metrics``      ``n``, ``classes_present`` (classes with a label; with ``multiple``, with a
                     yes), ``tested`` (rows with out-of-fold probabilities), ``penalty``, ``trust``
                     in the pool (0: none), and over the tested rows ``accuracy`` (with
                     ``multiple``, exact match), ``log_loss``, ``ece_before`` and ``ece_after`` the
                     temperature; with ``multiple`` also ``micro_f1`` and ``macro_f1``, the mean
                     over the classes with a tested yes.
                     None where nothing was tested. What is said of a row, for exact match and
                     F1, goes by thresholds that other folds' rows chose.
    """

    head: Head
    out_of_fold: Array | None
    metrics: dict[str, float | None]


def power_normalise(embeddings: NDArray[np.floating]) -> FloatArray:
    """(n, d) rows -> sign(x) sqrt|x|, each row then scaled to length 1 (a zero row stays zero).

    Perronnin, Sánchez and Mensink, *Improving the Fisher Kernel for Large-Scale Image
    Classification* (2010), section 3: it keeps a few strong channels from deciding alone.
    """
    rows = np.asarray(embeddings, dtype=np.float32)
    rooted = np.copysign(np.sqrt(np.abs(rows)), rows)
    lengths = np.linalg.norm(rooted, axis=1, keepdims=True)
    return np.asarray(rooted / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def fit_head(
    embeddings: ArrayLike,
    targets: ArrayLike,
    *,
    classes: Sequence[str],
    multiple: bool,
    seed: int,
    groups: ArrayLike | None = None,
    honest: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    pool: PoolPrior | None = None,
) -> HeadFit:
    """Fit a calibrated linear classifier from scratch on (n, d) embeddings and their labels.

    ``targets`` are (n,) positions in ``classes``, or with ``multiple`` (n, k) flags. Multinomial
    (or per-class) logistic regression with an L2 penalty. Five-fold cross-validation picks the
    penalty and the temperature by log loss, and gives the honest probabilities in the result.
    Below 50 tested labels the temperature is 1; with ``multiple`` it is also 1 for a class with
    fewer than 5 labels on either side. With ``multiple`` the tested rows also choose from which
    probability on a class is said (:func:`model.thresholds.fit_thresholds`). When nothing can be
    tested the penalty is a fixed one.

    ``groups``, (n,) whole numbers: rows of one group are in one fold (one picture and its
    augmented copies). ``honest``, (n,) bool: only these rows choose the penalty, the temperature
    and the thresholds, count towards their minimum numbers, and are in the metrics and in
    ``out_of_fold``. The others, which the backbone was tuned on or which are augmented copies, are
    learned from only, and a group without an honest row is learned by the model of every fold.
    When nothing is honest, nothing is tested.

    ``weights``, (n,) above 0: how much each row counts where it is learned from, 1 if absent. A
    row of weight 2 teaches what the same row does twice. Rows are tested without weights.

    ``pool``, of embeddings of the same width, lets the unlabelled images have a say
    (:mod:`model.pool_prior`), as far as the tested rows trust it; the head stays linear. With
    ``multiple`` it is ignored.

    A class without labels gets probability 0 (its logit is -10,000). With ``multiple``, a class
    whose labels are all yes or all no gets the constant (yes + 1) / (n + 2), Laplace's rule of
    succession.

    The same arguments in the same order give the same head. ArgumentError when ``embeddings`` is
    not a finite (n, d) array, ``targets`` does not fit, or there is too little to learn from:
    fewer than two classes with labels, or with ``multiple`` no row.
    """
    names = tuple(classes)
    rows = power_normalise(embedding_matrix(embeddings))
    n = len(rows)
    split = _Split(
        np.random.default_rng(seed),
        None if groups is None else whole_numbers("groups", groups, length=n),
        None if honest is None else row_flags("honest", honest, length=n),
        None if weights is None else row_weights("weights", weights, length=n),
    )
    if pool is not None and pool.width != rows.shape[1]:
        raise ArgumentError(f"pool has width {pool.width}; {rows.shape[1]} is needed.")
    if multiple:
        labels = class_flags("targets", targets, length=n, class_count=len(names))
        return _fit_flags(rows, labels, names, split)
    positions = class_positions("targets", targets, length=n, class_count=len(names))
    return _fit_classes(rows, positions, names, split, pool)


@dataclass(frozen=True, eq=False)
class _Split:
    """What decides which rows are tested, and by which model, and how much each teaches."""

    generator: np.random.Generator
    groups: NDArray[np.int64] | None
    honest: NDArray[np.bool_] | None
    weights: Array | None


def _fit_classes(
    rows: FloatArray,
    positions: NDArray[np.int64],
    names: tuple[str, ...],
    split: _Split,
    pool: PoolPrior | None,
) -> HeadFit:
    present, compact = np.unique(positions, return_inverse=True)
    if present.size < 2:
        raise ArgumentError(
            f"targets has labels of {present.size} class(es) in {positions.size} row(s); "
            "at least 2 are needed."
        )
    folds = class_folds(compact, FOLDS, split.generator, split.groups, split.honest)
    flags = np.eye(present.size, dtype=np.bool_)[compact]
    found = cross_fit(
        rows, flags, folds, multiple=False, honest=split.honest, weights=split.weights, pool=pool
    )
    weights = np.zeros((rows.shape[1], len(names)))
    bias = np.full(len(names), ABSENT_LOGIT)
    weights[:, present], bias[present] = found.weights, found.bias
    logits = None
    if found.out_of_fold is not None:
        logits = np.full((len(rows), len(names)), ABSENT_LOGIT)
        logits[:, present] = found.out_of_fold
    return _assemble(names, weights, bias, found, logits, positions, folds)


def _fit_flags(
    rows: FloatArray, flags: NDArray[np.bool_], names: tuple[str, ...], split: _Split
) -> HeadFit:
    if len(flags) == 0 or len(names) == 0:
        raise ArgumentError(f"targets has shape {flags.shape}; a row and a class are needed.")
    folds = flag_folds(flags, FOLDS, split.generator, split.groups, split.honest)
    found = cross_fit(rows, flags, folds, multiple=True, honest=split.honest, weights=split.weights)
    return _assemble(names, found.weights, found.bias, found, found.out_of_fold, flags, folds)


def _assemble(
    names: tuple[str, ...],
    weights: Array,
    bias: Array,
    found: CrossFit,
    logits: Array | None,
    targets: NDArray[np.int64] | NDArray[np.bool_],
    folds: NDArray[np.int64] | None,
) -> HeadFit:
    multiple = targets.ndim == 2
    metrics = unmeasured(targets, found.penalty, found.trust)
    out_of_fold, thresholds = None, None
    if logits is not None and folds is not None:
        out_of_fold = calibrated(logits, found.temperature, multiple)
        tested = np.isfinite(out_of_fold).all(axis=1)
        metrics |= measure(logits[tested], out_of_fold[tested], targets[tested], folds[tested])
        if multiple:
            thresholds = fit_thresholds(out_of_fold[tested], targets[tested])
    head = Head(
        names,
        multiple,
        weights.astype(np.float32),
        bias.astype(np.float32),
        found.temperature,
        thresholds,
    )
    return HeadFit(head, out_of_fold, metrics)
