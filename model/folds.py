"""Shares of the labelled rows for cross-validation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEVER_TESTED = -1


def assign_folds(
    strata: NDArray[np.int64], folds: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(n,) stratum of each row -> (n,) fold of each row, 0 to ``folds`` - 1.

    The rows of a stratum are dealt in random order to one fold after the other, going on where
    the stratum before ended: every fold has the same size and the same mix, to within one row. A
    stratum of at least two rows is therefore still seen when any fold is left out.
    """
    assigned = np.empty(len(strata), dtype=np.int64)
    dealt = 0
    for stratum in np.unique(strata):
        rows = generator.permutation(np.flatnonzero(strata == stratum))
        assigned[rows] = (dealt + np.arange(rows.size)) % folds
        dealt += rows.size
    return assigned


def class_folds(
    targets: NDArray[np.int64], most: int, generator: np.random.Generator
) -> NDArray[np.int64] | None:
    """Folds of rows with one class each, at most ``most`` of them.

    The only row of its class is in no fold (-1): a model that never saw the class could not be
    tested on it. None when fewer than two classes have two rows.
    """
    counts = np.bincount(targets)
    tested = counts[targets] >= 2
    if np.count_nonzero(counts >= 2) < 2:
        return None
    assigned = np.full(len(targets), NEVER_TESTED, dtype=np.int64)
    folds = min(most, int(tested.sum()))
    assigned[tested] = assign_folds(targets[tested], folds, generator)
    return assigned


def flag_folds(
    flags: NDArray[np.bool_], most: int, generator: np.random.Generator
) -> NDArray[np.int64] | None:
    """Folds of rows with any number of classes each, (n, k) flags, at most ``most`` of them.

    Dealt by the rarest class that each row has, so that rare classes are spread; None below four
    rows.
    """
    if len(flags) < 4:
        return None
    counts = flags.sum(axis=0)
    rarity = np.where(flags, counts, len(flags) + 1)
    strata = np.where(flags.any(axis=1), rarity.argmin(axis=1), flags.shape[1])
    return assign_folds(strata.astype(np.int64), min(most, len(flags)), generator)
