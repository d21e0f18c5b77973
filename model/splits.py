"""Which labelled rows to learn from: subsets and splits that keep the mix of classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.checks import share as checked_share
from model.errors import ArgumentError


def stratified_subset(
    targets: NDArray[np.int64], size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Ascending positions of ``size`` rows in (n,) ``targets``, all of them when n is not more.

    Every class that there is has a row among them as long as ``size`` allows it; beyond that the
    classes have their shares, to within about a row (each next row goes to the class with the
    least (2 j + 1) / (2 c), j rows taken of c: Sainte-Laguë's rule). Two subsets from generators
    in the same state are nested: the smaller is part of the larger.

    ArgumentError when ``size`` is below 1.
    """
    if size < 1:
        raise ArgumentError(f"size={size}; 1 or more is allowed.")
    order = generator.permutation(len(targets))
    turn = np.empty(len(targets))
    for name in np.unique(targets):
        rows = order[targets[order] == name]
        turn[rows] = (np.arange(rows.size) + 0.5) / rows.size
        turn[rows[0]] = 0
    # Stable, over rows in random order: chance decides between equal classes.
    taken = order[np.argsort(turn[order], kind="stable")][:size]
    return np.sort(taken)


def stratified_split(
    targets: NDArray[np.int64], held_share: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending positions of (n,) ``targets`` in two parts: those kept and those held out.

    Each class holds out ``held_share`` of its rows, rounded, but at least one and never all; the
    only row of a class is kept. ArgumentError when the share is not in [0, 1].
    """
    checked_share("held_share", held_share)
    held = np.zeros(len(targets), dtype=np.bool_)
    for name in np.unique(targets):
        rows = generator.permutation(np.flatnonzero(targets == name))
        count = min(max(round(held_share * rows.size), 1), rows.size - 1)
        held[rows[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
