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
    targets: NDArray[np.int64],
    most: int,
    generator: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    honest: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64] | None:
    """Folds of rows with one class each, at most ``most`` of them.

    ``groups``, (n,) numbers: the rows of a group are in one fold; without it each row is a group.
    ``honest``, (n,): the rows that a model can be tested on, all without it. A group without an
    honest row is in no fold (-1), so that every model learns it.

    A group is in no fold either when no other group has the class of one of its honest rows: a
    model that never saw the class could not be tested on it. None when fewer than two classes can
    be tested.
    """
    group, judged = _grouped(len(targets), groups, honest)
    pairs = np.unique(np.stack([group, targets], axis=1), axis=0)
    lonely = np.bincount(pairs[:, 1], minlength=1) < 2
    leaders = _leaders(group, judged, barred=group[judged & lonely[targets]])
    if len(leaders) < 2:
        return None
    dealt = assign_folds(targets[leaders], min(most, len(leaders)), generator)
    assigned = _by_group(group, group[leaders], dealt)
    if groups is not None:
        # Where a group mixes classes, all rows of a class can have come into one fold.
        inside = np.zeros((assigned.max() + 2, len(lonely)), dtype=np.int64)
        np.add.at(inside, (assigned, targets), 1)
        unseen = judged & (inside[assigned, targets] == inside.sum(axis=0)[targets])
        assigned[np.isin(group, group[unseen & (assigned >= 0)])] = NEVER_TESTED
    tested = judged & (assigned >= 0)
    return _numbered(assigned) if np.unique(targets[tested]).size >= 2 else None


def flag_folds(
    flags: NDArray[np.bool_],
    most: int,
    generator: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    honest: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64] | None:
    """Folds of rows with any number of classes each, (n, k) flags, at most ``most`` of them.

    ``groups`` and ``honest`` as in :func:`class_folds`. Dealt by the rarest class that each group
    has (that its first honest row has), so that rare classes are spread; None below four groups
    with an honest row.
    """
    group, judged = _grouped(len(flags), groups, honest)
    leaders = _leaders(group, judged, barred=group[:0])
    if len(leaders) < 4:
        return None
    led = flags[leaders]
    rarity = np.where(led, led.sum(axis=0), len(led) + 1)
    strata = np.where(led.any(axis=1), rarity.argmin(axis=1), flags.shape[1])
    dealt = assign_folds(strata.astype(np.int64), min(most, len(leaders)), generator)
    return _by_group(group, group[leaders], dealt)


def _grouped(
    n: int, groups: NDArray[np.int64] | None, honest: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(n,) group of each row, from 0 on without gaps, and (n,) whether it can be tested."""
    group = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    return group, np.ones(n, dtype=np.bool_) if honest is None else honest


def _leaders(
    group: NDArray[np.int64], judged: NDArray[np.bool_], barred: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first judged row of each group that has one and is not barred, in ascending order."""
    rows = np.flatnonzero(judged)
    first = rows[np.unique(group[rows], return_index=True)[1]]
    return np.sort(first[~np.isin(group[first], barred)])


def _by_group(
    group: NDArray[np.int64], led: NDArray[np.int64], dealt: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n,) fold of each row's group, -1 for groups that have none."""
    fold = np.full(group.max() + 1, NEVER_TESTED, dtype=np.int64)
    fold[led] = dealt
    return np.asarray(fold[group])


def _numbered(assigned: NDArray[np.int64]) -> NDArray[np.int64]:
    """The folds in use, numbered from 0 on without gaps."""
    used = np.unique(assigned[assigned >= 0])
    return np.where(assigned >= 0, np.searchsorted(used, assigned), NEVER_TESTED)
