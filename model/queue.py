"""Uncertainties in, one order for the whole pool out.

The score is what Label Studio sorts by: lower is labelled sooner. Images with something to learn
from lie in [0, 0.999]; 1.0 is kept for images that cannot be had, which are served last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import ArgumentError

LAST_SCORE = 1.0
_SPAN = 0.999


def queue_scores(uncertainties: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """(n,) uncertainties in [0, 1], one array for each control -> (n,) scores in [0, 0.999].

    score = 0.999 * (1 - u), u the largest uncertainty over the controls: one visit labels all
    controls of an image, so the control that needs it most decides. A larger u never gets a larger
    score, and one larger by more than 1e-15 always gets a smaller one. ArgumentError when there is
    no array, the lengths differ, or a value is NaN or outside [0, 1].
    """
    if len(uncertainties) == 0:
        raise ArgumentError("uncertainties is empty; one array for each control is needed.")
    arrays = [np.asarray(values, dtype=np.float64) for values in uncertainties]
    for position, values in enumerate(arrays):
        if values.ndim != 1 or values.shape != arrays[0].shape:
            raise ArgumentError(
                f"uncertainties[{position}] has shape {values.shape}; "
                f"({arrays[0].size},) is needed, as for every control."
            )
    largest = np.max(arrays, axis=0)
    outside = ~((largest >= 0) & (np.min(arrays, axis=0) >= 0) & (largest <= 1))
    if outside.any():
        where = int(outside.argmax())
        shown = [float(values[where]) for values in arrays]
        raise ArgumentError(f"uncertainties at row {where} are {shown}; [0, 1] is allowed.")
    return np.asarray(_SPAN * (1.0 - largest), dtype=np.float64)


def shuffled_score(key: str, seed: int) -> float:
    """A fixed place in [0, 0.999] for ``key``, uniform over keys: the order with no labels yet.

    The first 53 bits of SHA-256 of ``"{seed}:{key}"``, so the same in every process and on every
    machine.
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return _SPAN * ((int.from_bytes(digest[:8], "big") >> 11) / 2**53)
