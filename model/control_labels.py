"""The labels that a network learns from, of one or several controls at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checks import class_flags, class_positions
from model.errors import ArgumentError
from model.folds import assign_folds

Array = NDArray[np.float64]
MOST_WEIGHT = 10.0


@dataclass(frozen=True, eq=False)
class ControlLabels:
    """What is known of n images for one control.

    ``targets``  (n,) int64 positions in ``classes``, or with ``multiple`` (n, k) bool
    ``known``    (n,) bool, the images that have a label of this control; what ``targets`` holds
                 for the others is ignored

    ArgumentError when the arrays do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    multiple: bool
    targets: NDArray[Any]
    known: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.known.ndim != 1 or self.known.dtype != np.bool_:
            raise ArgumentError(f"known has shape {self.known.shape}; (n,) bool is needed.")
        n, k = self.known.size, len(self.classes)
        wanted = (n, k) if self.multiple else (n,)
        if self.targets.shape != wanted:
            raise ArgumentError(f"targets has shape {self.targets.shape}; {wanted} is needed.")
        check = class_flags if self.multiple else class_positions
        check("targets", self.targets[self.known], length=int(self.known.sum()), class_count=k)

    def flags(self) -> Array:
        """(n, k) 0/1: one-hot rows, or with ``multiple`` any; zeros where nothing is known."""
        if self.multiple:
            found = self.targets.astype(np.float64)
        else:
            found = np.eye(len(self.classes))[np.where(self.known, self.targets, 0)]
        return np.asarray(found * self.known[:, None])

    def learnable(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(k,) the classes that ``rows`` can teach: they have a yes, and with ``multiple`` a no."""
        used = self.known & rows
        positive = self.flags()[used].sum(axis=0)
        if self.multiple:
            return np.asarray((positive > 0) & (positive < used.sum()))
        return np.asarray(positive > 0)


def validation_rows(
    labels: Sequence[ControlLabels], share: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """(n,) bool: about ``share`` of the rows, with the same mix of labels as the others.

    A row that alone has a class of some control is never among them, so that the others still
    know every class.
    """
    strata = np.unique(np.hstack([_codes(part) for part in labels]), axis=0, return_inverse=True)
    folds = assign_folds(strata[1].reshape(-1).astype(np.int64), round(1 / share), generator)
    chosen = folds == 0
    for part in labels:
        flags = part.flags() > 0
        last = flags & ~(flags & ~chosen[:, None]).any(axis=0)
        # One row of each class that would be left without any goes back.
        for column in np.flatnonzero(last.any(axis=0)):
            chosen[np.flatnonzero(last[:, column])[0]] = False
    return np.asarray(chosen)


def _codes(part: ControlLabels) -> NDArray[np.int64]:
    """(n, 1) what stratifies a control: its class, or the rarest one of several; -1 unknown."""
    flags = part.flags() > 0
    counts = flags.sum(axis=0)
    rarity = np.where(flags, counts, len(flags) + 1)
    codes = np.where(flags.any(axis=1), rarity.argmin(axis=1), flags.shape[1])
    return np.where(part.known, codes, -1).astype(np.int64)[:, None]


def class_weights(part: ControlLabels, rows: NDArray[np.bool_]) -> Array:
    """(k,) weight of each class that makes all count alike: n / (k n_c), at most 10, 0 without n_c.

    With ``multiple`` it is the weight of a yes against a no, n_no / n_yes. King and Zeng, *Logistic
    Regression in Rare Events Data* (2001), section 4.1, for the single case.
    """
    used = part.known & rows
    counts = part.flags()[used].sum(axis=0)
    n = float(used.sum())
    if part.multiple:
        wanted = (n - counts) / np.maximum(counts, 1)
    else:
        wanted = n / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1))
    return np.where(counts > 0, np.minimum(wanted, MOST_WEIGHT), 0.0)


def row_weights(labels: Sequence[ControlLabels], rows: NDArray[np.bool_]) -> Array:
    """(n,) how often a balanced sampler takes each of ``rows``: as its rarest class asks; sum 1."""
    weights = np.zeros(len(rows))
    for part in labels:
        of_class = class_weights(part, rows)
        weights = np.maximum(weights, (part.flags() * of_class).max(axis=1))
    # A row with no class of any control still counts, as the commonest does.
    least = weights[weights > 0].min(initial=1.0)
    weights = np.where(rows, np.maximum(weights, least), 0.0)
    return np.asarray(weights / weights.sum())
