"""Labels that are probably wrong: one list, the worst first, each with its reasons.

Three witnesses are heard. A model that was fitted without the label says something else; the people
who labelled the image disagreed; or nearly the same picture was labelled otherwise. Nothing is
changed: somebody has to look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import (
    class_flags,
    class_positions,
    probability_matrix,
    whole_numbers,
)
from model.errors import ArgumentError
from model.thresholds import NEUTRAL

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

MODEL, PEOPLE, DUPLICATE = "model", "people", "near-duplicate"
CLEAR = 0.95
"""Doubt from which a label is suspicious however many confident learning counts: it has a chance of
one in twenty at most, by a calibrated model."""
# The paper's and cleanlab's: the weight of each further self-confidence.
_NEWEST = 0.8


@dataclass(frozen=True)
class SuspiciousLabel:
    """A label that is probably wrong.

    ``position``     in the arrays that were passed in
    ``doubt``        in [0, 1], what the list is ordered by
    ``reasons``      some of ``model``, ``people`` and ``near-duplicate``
    ``likely``       positions of the classes that the model says; the given ones where it was not
                     heard
    ``probability``  of the likely class; of several classes that may be ticked at once, that the
                     least trusted tick or gap is wrong. None where no model was heard
    """

    position: int
    doubt: float
    reasons: tuple[str, ...]
    likely: tuple[int, ...]
    probability: float | None


def suspicious_labels(
    probabilities: ArrayLike,
    targets: ArrayLike,
    *,
    multiple: bool = False,
    dissent: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    thresholds: ArrayLike | None = None,
) -> list[SuspiciousLabel]:
    """The suspicious ones among n labels, the worst first; equal ones in the order of the rows.

    ``probabilities``  (n, k) of the classes, each row by a model that was fitted without its label;
                       rows of NaN where there is none
    ``targets``        (n,) positions of the given classes, or with ``multiple`` (n, k) flags
    ``dissent``        (n,) share of the annotators who said something else; 1/2 for a tie
    ``groups``         (n,) whole numbers, the same for near-duplicates
    ``thresholds``     (k,) from which probability on a class is said, with ``multiple``

    A label is suspicious when the model says something else and doubts it most, for as many as
    confident learning counts errors (:func:`off_diagonal`), or by :data:`CLEAR` and more; when
    people disagreed; or when a near-duplicate has another label. Its doubt is 1 - prod(1 - d) over
    the reasons it has, as if each were an independent witness that is wrong with probability 1 - d:
    d is :func:`model_doubt`, the dissent, and :func:`duplicate_doubt`.

    ArgumentError when the arrays do not fit together or hold what is not allowed.
    """
    given, known, rows = _checked(probabilities, targets, multiple)
    n = len(given)
    doubt = model_doubt(rows, given[known], multiple=multiple)
    parts = {
        MODEL: _scattered(known, doubt),
        PEOPLE: _shares("dissent", dissent, n),
        DUPLICATE: np.zeros(n) if groups is None else duplicate_doubt(groups, given),
    }
    flagged = {name: part > 0 for name, part in parts.items()}
    said = _said(rows, given[known], multiple, thresholds)
    errors = int(off_diagonal(rows, given[known], multiple=multiple).sum())
    worst = np.argsort(-doubt, kind="stable")
    other = said[0] != given[known]
    other = other.any(axis=1) if multiple else other
    flagged[MODEL] = np.zeros(n, dtype=np.bool_)
    flagged[MODEL][known] = other & (doubt >= CLEAR)
    flagged[MODEL][np.flatnonzero(known)[worst[other[worst]][:errors]]] = True
    trust = np.ones(n)
    for name, part in parts.items():
        trust *= np.where(flagged[name], 1 - part, 1.0)
    likely, probability = given.copy(), np.full(n, np.nan)
    likely[known], probability[known] = said
    found = np.flatnonzero(np.any(list(flagged.values()), axis=0))
    return [
        SuspiciousLabel(
            int(i),
            float(1 - trust[i]),
            tuple(name for name in parts if flagged[name][i]),
            _classes(likely[i]),
            float(probability[i]) if known[i] else None,
        )
        for i in found[np.argsort(trust[found], kind="stable")]
    ]


def model_doubt(probabilities: Array, targets: NDArray[Any], *, multiple: bool = False) -> Array:
    """(n, k) out-of-fold probabilities and the given labels -> (n,) doubt in [0, 1].

    1 minus cleanlab's label quality. Single: the self-confidence, so that the doubt is the
    probability of all other classes together (Kuan and Mueller, *Model-agnostic label quality
    scoring to detect real-world label errors*, 2022); docs/label-quality.md has how it compares.
    ``multiple``: the self-confidences of the k flags, the least weighted most by an exponential
    moving average (Thyagarajan et al., *Identifying Incorrect Annotations in Multi-Label
    Classification Data*, 2023, equation 3).
    """
    if not len(targets):
        return np.zeros(0)
    if multiple:
        # Not by cleanlab, which refuses a single class, and flags that are all alike.
        confidences = np.where(targets, probabilities, 1 - probabilities)
        return np.asarray(1 - _moving_average(-np.sort(-confidences, axis=1)))
    from cleanlab.rank import get_self_confidence_for_each_label

    return np.asarray(1 - get_self_confidence_for_each_label(targets, probabilities))


def _moving_average(columns: Array) -> Array:
    """(n, k) -> (n,) exponential moving average of each row, from left to right."""
    average = columns[:, 0]
    for column in columns.T[1:]:
        average = _NEWEST * column + (1 - _NEWEST) * average
    return average


def off_diagonal(probabilities: Array, targets: NDArray[Any], *, multiple: bool = False) -> Flags:
    """(n,) which labels confident learning counts as errors.

    Those off the diagonal of the confident joint (Northcutt, Jiang and Chuang, *Confident
    Learning*, 2021, equation 1): rows whose probability of another class reaches the mean that
    rows of that class have, the likeliest such class where there are several. ``multiple``: each
    class against the rest, for classes with labels of both kinds.
    """
    wrong = np.zeros(len(targets), dtype=np.bool_)
    if multiple:
        for column in range(targets.shape[1]):
            yes, chance = targets[:, column].astype(np.int64), probabilities[:, column]
            wrong |= _single_off_diagonal(np.column_stack([1 - chance, chance]), yes)
        return wrong
    return _single_off_diagonal(probabilities, targets)


def duplicate_doubt(groups: ArrayLike, targets: NDArray[Any]) -> Array:
    """(n,) share of the other labels in each row's group that differ from its own; 0 where alone.

    ``targets`` are (n,) positions or (n, k) flags.
    """
    numbers = whole_numbers("groups", groups, length=len(targets))
    if not len(targets):
        return np.zeros(0)
    group = np.unique(numbers, return_inverse=True)[1].reshape(-1)
    label = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    both = np.unique(np.column_stack([group, label]), axis=0, return_inverse=True)[1].reshape(-1)
    size, alike = np.bincount(group)[group], np.bincount(both)[both]
    return np.asarray((size - alike) / np.maximum(size - 1, 1), dtype=np.float64)


def _single_off_diagonal(probabilities: Array, targets: NDArray[np.int64]) -> Flags:
    """Classes that no label has are left out: nothing says how probable they would have to be."""
    from cleanlab.count import compute_confident_joint

    wrong = np.zeros(len(targets), dtype=np.bool_)
    present, compact = np.unique(targets, return_inverse=True)
    if present.size >= 2:
        _, where = compute_confident_joint(
            compact.reshape(-1),
            probabilities[:, present],
            calibrate=False,
            return_indices_of_off_diagonals=True,
        )
        wrong[where] = True
    return wrong


def _said(
    rows: Array, given: NDArray[Any], multiple: bool, thresholds: ArrayLike | None
) -> tuple[NDArray[Any], Array]:
    """What the model says of each row, and how probable that is."""
    if not multiple:
        return rows.argmax(axis=1), rows.max(axis=1, initial=0.0)
    limits = np.full(rows.shape[1], NEUTRAL) if thresholds is None else np.asarray(thresholds)
    if limits.shape != rows.shape[1:]:
        raise ArgumentError(f"thresholds has shape {limits.shape}; {rows.shape[1:]} is needed.")
    said = rows >= limits
    against = np.where(given, 1 - rows, rows)
    differ = said != given
    # Where the model says what was given, the least trusted of all.
    counted = differ | ~differ.any(axis=1, keepdims=True)
    return said, np.where(counted, against, 0).max(axis=1, initial=0.0)


def _checked(
    probabilities: ArrayLike, targets: ArrayLike, multiple: bool
) -> tuple[NDArray[Any], Flags, Array]:
    """The labels, which rows have probabilities, and these."""
    matrix = np.asarray(probabilities, dtype=np.float64)
    if matrix.ndim != 2:
        raise ArgumentError(f"probabilities has shape {matrix.shape}; (n, k) is needed.")
    check = class_flags if multiple else class_positions
    given = check("targets", targets, length=len(matrix), class_count=matrix.shape[1])
    known = np.asarray(~np.isnan(matrix).any(axis=1))
    rows = matrix[known]
    if len(rows):
        rows = probability_matrix("probabilities", rows, rows_sum_to_one=not multiple)
    return given, known, rows


def _shares(name: str, values: ArrayLike | None, n: int) -> Array:
    if values is None:
        return np.zeros(n)
    shares = np.asarray(values, dtype=np.float64)
    if shares.shape != (n,):
        raise ArgumentError(f"{name} has shape {shares.shape}; ({n},) is needed.")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ArgumentError(f"{name} holds {shares.min()} to {shares.max()}; [0, 1] is allowed.")
    return shares


def _scattered(known: Flags, values: Array) -> Array:
    whole = np.zeros(len(known))
    whole[known] = values
    return whole


def _classes(label: Any) -> tuple[int, ...]:
    found: Iterable[Any] = np.flatnonzero(label) if np.ndim(label) else [label]
    return tuple(int(i) for i in found)
