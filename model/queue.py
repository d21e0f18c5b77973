"""Uncertainties and picks in, one order for the whole pool out.

The score is what Label Studio sorts by: lower is labelled sooner. The picks of a strategy, the rest
by uncertainty and the audit images among them lie in [0, 0.9); what adds nothing, such as another
picture of the same thing, in [0.9, 0.999]; 1.0 is kept for images that cannot be had, which are
served last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.audit import interleave
from model.errors import ArgumentError

LAST_SCORE = 1.0
_SPAN = 0.999
_BACK = 0.9
# Label Studio keeps scores as double numbers; these are short in JSON, too.
_DECIMALS = 9
_ANCHORS = 512

Array = NDArray[np.float64]


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


@dataclass(frozen=True, eq=False)
class Line:
    """n tasks in one order, and where one that comes later has its place.

    ``scores``  (n,) in [0, 0.999], no two alike: lower is labelled sooner
    ``queue``   (m, 2) scale, ascending in both columns: a task's own score → its place
    ``audit``   (m, 2) scale, the same for audit images: their place among these → that in the line
    """

    scores: Array
    queue: Array
    audit: Array


@dataclass(frozen=True, eq=False)
class Stream:
    """Tasks that come evenly among others.

    ``places``  (n,) places among themselves, in [0, 1); NaN where a task is none of them
    ``taken``, ``served``, ``pace``  as :func:`model.audit.interleave` takes them, for audit images
    """

    places: ArrayLike
    taken: int
    served: int
    pace: float


def line_up(
    own: ArrayLike,
    *,
    picks: ArrayLike = (),
    audit_places: ArrayLike | None = None,
    behind: ArrayLike | None = None,
    audit_served: int = 0,
    served: int = 0,
    pace: float = 0.0,
    checks: Stream | None = None,
) -> Line:
    """One order of n tasks: the picks, the rest by their own scores, ``checks`` and audit images
    evenly among both, and last what stands ``behind``.

    ``own``           (n,) scores in [0, 0.999] by which the rest stands, as of :func:`queue_scores`
    ``picks``         (m,) positions, the first one in front; those that are audit images or stand
                      behind count as such
    ``audit_places``  (n,) places among the audit images, in [0, 1); NaN: not an audit image
    ``behind``        (n,) flags; they stand in the order of their own scores
    ``audit_served``, ``served``, ``pace``  as :func:`model.audit.interleave` takes them
    ``checks``        others that come evenly among picks and rest; audit images count as such

    Equal ones stand in the order of their positions. ArgumentError when a length differs, a
    position is picked twice or is none, or a score is NaN or outside [0, 0.999].
    """
    scores = _own_scores(own)
    n = len(scores)
    places = _places("audit_places", audit_places, n)
    spread = _places("checks", checks.places if checks else None, n)
    back = np.zeros(n, dtype=np.bool_) if behind is None else np.asarray(behind, dtype=np.bool_)
    if back.shape != (n,):
        raise ArgumentError(f"behind has shape {back.shape}; ({n},) is needed.")
    in_audit = ~np.isnan(places) & ~back
    in_checks = ~np.isnan(spread) & ~in_audit & ~back
    first = _picked(picks, n)
    first = first[~(in_audit | in_checks | back)[first]]
    later = ~(in_audit | in_checks | back)
    later[first] = False
    rest = _sorted(np.flatnonzero(later), scores)
    audit = _sorted(np.flatnonzero(in_audit), places)
    others = np.concatenate([first, rest])
    if checks is not None and in_checks.any():
        others = interleave(
            _sorted(np.flatnonzero(in_checks), spread),
            others,
            audit_served=checks.taken,
            served=checks.served,
            pace=checks.pace,
        )
    front = interleave(
        audit,
        others,
        audit_served=audit_served,
        served=served,
        pace=pace,
    )
    last = _sorted(np.flatnonzero(back), scores)
    found = np.empty(n)
    found[front] = _evenly(0.0, _BACK, len(front))
    found[last] = _evenly(_BACK, _SPAN, len(last))
    # Half a step behind the last pick.
    ahead = found[first].max() + _BACK / len(front) / 2 if first.size else 0.0
    return Line(
        found,
        _scale(scores[rest], found[rest], (0.0, ahead), (_SPAN, _BACK)),
        _scale(places[audit], found[audit], (0.0, 0.0), (1.0, _BACK)),
    )


def late_score(key: float, scale: ArrayLike) -> float:
    """The place in [0, 0.9) of a task that comes after its line was made: between those that it
    would have stood between, but behind the picks.

    ``key`` is its own score with the line's scale ``queue``, or its place among the audit images
    with the scale ``audit``. Without a scale, an empty one, the key itself is the place.
    """
    anchors = np.asarray(scale, dtype=np.float64).reshape(-1, 2)
    if not len(anchors):
        anchors = np.array([(0.0, 0.0), (_SPAN, _BACK)])
    place = float(np.interp(key, anchors[:, 0], anchors[:, 1]))
    return round(min(place, _BACK - 10.0**-_DECIMALS), _DECIMALS)


def back_score(own: float) -> float:
    """The place in [0.9, 0.999] of a task that comes late and adds nothing."""
    return round(_BACK + (_SPAN - _BACK) * own / _SPAN, _DECIMALS)


def twins(groups: ArrayLike, taken: ArrayLike = ()) -> NDArray[np.bool_]:
    """(n,) which of n tasks show nothing but near-duplicates of what stands before them.

    ``groups`` (n, p) whole numbers: those of each task's images, the first task's first, -1 for
    none; ``taken`` are groups that need no further image. A task without any group is no twin.
    """
    numbers = np.asarray(groups, dtype=np.int64)
    if numbers.ndim != 2:
        raise ArgumentError(f"groups has shape {numbers.shape}; (n, p) is needed.")
    first, place = np.unique(numbers, return_index=True, return_inverse=True)[1:]
    row = np.arange(len(numbers))[:, None]
    seen = (first // max(1, numbers.shape[1]))[place].reshape(numbers.shape) < row
    seen |= np.isin(numbers, np.asarray(taken, dtype=np.int64))
    there = numbers >= 0
    return np.asarray(there.any(axis=1) & (seen | ~there).all(axis=1))


def _own_scores(own: ArrayLike) -> Array:
    scores = np.asarray(own, dtype=np.float64)
    if scores.ndim != 1:
        raise ArgumentError(f"own has shape {scores.shape}; (n,) is needed.")
    outside = ~((scores >= 0) & (scores <= _SPAN))
    if outside.any():
        where = int(outside.argmax())
        raise ArgumentError(f"own[{where}] is {scores[where]}; [0, {_SPAN}] is allowed.")
    return scores


def _places(name: str, places: ArrayLike | None, n: int) -> Array:
    found = np.full(n, np.nan) if places is None else np.asarray(places, dtype=np.float64)
    if found.shape != (n,):
        raise ArgumentError(f"{name} has shape {found.shape}; ({n},) is needed.")
    return found


def _picked(picks: ArrayLike, n: int) -> NDArray[np.int64]:
    positions = np.asarray(picks, dtype=np.int64)
    alike = len(np.unique(positions)) < positions.size
    if positions.ndim != 1 or alike or ((positions < 0) | (positions >= n)).any():
        raise ArgumentError(f"picks is {positions}; different positions below {n} are needed.")
    return positions


def _sorted(positions: NDArray[np.int64], keys: Array) -> NDArray[np.int64]:
    return positions[np.argsort(keys[positions], kind="stable")]


def _evenly(low: float, high: float, count: int) -> Array:
    """(count,) ascending scores in [low, high)."""
    return np.round(low + (high - low) * np.arange(count) / max(count, 1), _DECIMALS)


def _scale(
    keys: Array, places: Array, first: tuple[float, float], last: tuple[float, float]
) -> Array:
    """A few hundred of the pairs, evenly by rank, between two ends."""
    rank = np.unique(np.linspace(0, len(keys) - 1, min(len(keys), _ANCHORS)).astype(np.int64))
    pairs = np.column_stack([keys[rank], places[rank]])
    return np.concatenate([[first], pairs, [last]])
