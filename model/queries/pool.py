"""What a query strategy is asked about, and the one form that all strategies have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import class_flags, probability_matrix, whole_numbers
from model.errors import ArgumentError
from model.head import Head

_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Answers:
    """What the head of one control says of the n images of a pool.

    ``probabilities``  (n, k), calibrated, in [0, 1]; rows sum to 1 unless ``multiple``. While
                       nothing is learned, every row is the same
    ``multiple``       each column is a yes-or-no question of its own
    ``head``           the head itself, for strategies that ask it again; None where there is none
    ``label_counts``   (k,) labels of each class so far; None where that is not known
    """

    probabilities: NDArray[np.floating]
    multiple: bool = False
    head: Head | None = None
    label_counts: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """n images, what is known of them, and which of them may be picked.

    ``embeddings``  (n, d) of any float type, finite in float32 too, as the backbone gives them
    ``answers``     one for each control; none while no control has been learned
    ``labelled``    (m,) positions of the images that the heads have learned from
    ``barred``      (n,) bool: never to be picked, but part of what is to be understood; None for
                    no image. Labelled images need not be among them

    ArgumentError names what does not fit.
    """

    embeddings: NDArray[np.floating]
    answers: tuple[Answers, ...]
    labelled: NDArray[np.int64]
    barred: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        matrix = np.asarray(self.embeddings)
        if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.floating):
            raise ArgumentError(
                f"embeddings has shape {matrix.shape} and dtype {matrix.dtype}; (n, d) floats "
                "are needed."
            )
        _check_values(matrix)
        object.__setattr__(self, "embeddings", matrix)
        n = len(matrix)
        object.__setattr__(self, "answers", tuple(_checked(part, n) for part in self.answers))
        object.__setattr__(self, "labelled", _positions(self.labelled, n))
        if self.barred is not None:
            barred = class_flags(
                "barred", np.asarray(self.barred).reshape(-1, 1), length=n, class_count=1
            )
            object.__setattr__(self, "barred", barred[:, 0])

    @classmethod
    def of(
        cls,
        embeddings: ArrayLike,
        probabilities: ArrayLike | None,
        labelled: ArrayLike = (),
        *,
        multiple: bool = False,
    ) -> Pool:
        """The pool of one control, or with ``probabilities`` None of one that knows nothing."""
        answers = () if probabilities is None else (Answers(np.asarray(probabilities), multiple),)
        return cls(np.asarray(embeddings), answers, np.asarray(labelled, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.embeddings)

    def candidates(self) -> NDArray[np.int64]:
        """Ascending positions of the images that may be picked."""
        free = np.ones(len(self), dtype=np.bool_)
        free[self.labelled] = False
        if self.barred is not None:
            free &= ~self.barred
        return np.flatnonzero(free)


Strategy = Callable[[Pool, int, np.random.Generator], NDArray[np.int64]]
"""(pool, count, generator) -> positions in the pool, the one to label first in front.

``count`` different candidates, or all of them where there are fewer. The same arguments, with a
generator in the same state, give the same positions. ArgumentError when ``count`` is negative.
"""


def checked_count(pool: Pool, count: int) -> int:
    """How many can be picked: ``count``, or as many as there are candidates."""
    if count < 0:
        raise ArgumentError(f"count={count}; 0 or more is allowed.")
    return min(int(count), len(pool.candidates()))


def _check_values(matrix: NDArray[np.floating]) -> None:
    # By blocks, in float32: quicker than in float16, and no second copy of it all.
    for start in range(0, len(matrix), _BLOCK):
        part = matrix[start : start + _BLOCK]
        with np.errstate(over="ignore"):
            finite = np.isfinite(part.astype(np.float32, copy=False))
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise ArgumentError(
                f"embeddings[{start + row}, {column}] is {part[row, column]}; every value must be "
                "finite in float32."
            )


def _checked(answers: Answers, n: int) -> Answers:
    matrix: NDArray[Any] = probability_matrix(
        "probabilities", answers.probabilities, rows_sum_to_one=not answers.multiple
    )
    if len(matrix) != n:
        raise ArgumentError(f"probabilities has {len(matrix)} rows; {n} are needed.")
    counts = answers.label_counts
    if counts is not None:
        counts = whole_numbers("label_counts", counts, length=matrix.shape[1])
    return Answers(matrix, answers.multiple, answers.head, counts)


def _positions(values: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    positions = np.asarray(values)
    if positions.ndim != 1:
        raise ArgumentError(f"labelled has shape {positions.shape}; (m,) is needed.")
    positions = whole_numbers("labelled", positions, length=len(positions))
    if positions.size and not (positions.min() >= 0 and positions.max() < n):
        raise ArgumentError(
            f"labelled holds {positions.min()} to {positions.max()}; 0 to {n - 1} is allowed."
        )
    return np.unique(positions)
