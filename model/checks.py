"""Checks of arguments that several modules share; each error names the argument and its value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import ArgumentError

_ROWS = 16_384
"""Rows that are looked at together."""


def finite_matrix(name: str, values: ArrayLike, *, width: int | None = None) -> NDArray[np.float64]:
    """``values`` as a finite (n, m) float64 array; m must be ``width`` where one is given."""
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} is not an array of numbers: {values!r:.80}.") from None
    wanted = "(n, m)" if width is None else f"(n, {width})"
    if matrix.ndim != 2 or (width is not None and matrix.shape[1] != width):
        raise ArgumentError(f"{name} has shape {matrix.shape}; {wanted} is needed.")
    check_finite(name, matrix)
    return matrix


def embedding_matrix(embeddings: ArrayLike, width: int | None = None) -> NDArray[np.float32]:
    """``embeddings`` as a finite (n, d) float32 array, d at least 1, or ``width`` if given."""
    try:
        # What float32 cannot hold becomes infinite and is refused below.
        with np.errstate(over="ignore"):
            rows = np.asarray(embeddings).astype(np.float32, copy=False)
    except (TypeError, ValueError):
        raise ArgumentError("embeddings is not an array of numbers.") from None
    wanted = "(n, d)" if width is None else f"(n, {width})"
    if rows.ndim != 2 or rows.shape[1] == 0 or (width is not None and rows.shape[1] != width):
        raise ArgumentError(f"embeddings has shape {rows.shape}; {wanted} is needed.")
    check_finite("embeddings", rows)
    return rows


def check_finite(name: str, matrix: NDArray[np.floating]) -> None:
    """ArgumentError for the first NaN or infinity in an (n, m) array."""
    for start in range(0, len(matrix), _ROWS):
        bad = ~np.isfinite(matrix[start : start + _ROWS])
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise ArgumentError(
                f"{name}[{start + row}, {column}] is {matrix[start + row, column]}; every value "
                "must be finite."
            )


def probability_matrix(
    name: str, values: ArrayLike, *, rows_sum_to_one: bool
) -> NDArray[np.float64]:
    """``values`` as an (n, k) float64 array of probabilities, k at least 1."""
    matrix = finite_matrix(name, values)
    if matrix.shape[1] == 0:
        raise ArgumentError(f"{name} has shape {matrix.shape}; at least one class is needed.")
    outside = (matrix < -1e-6) | (matrix > 1 + 1e-6)
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        raise ArgumentError(
            f"{name}[{row}, {column}] is {matrix[row, column]}; probabilities lie in [0, 1]."
        )
    if rows_sum_to_one and matrix.size:
        sums = matrix.sum(axis=1)
        worst = int(np.abs(sums - 1).argmax())
        if abs(sums[worst] - 1) > 1e-3:
            raise ArgumentError(f"{name}[{worst}] sums to {sums[worst]}; each row must sum to 1.")
    return np.clip(matrix, 0.0, 1.0)


def class_positions(
    name: str, values: ArrayLike, *, length: int, class_count: int
) -> NDArray[np.int64]:
    """``values`` as (n,) int64 positions in the classes."""
    positions = np.asarray(values)
    if positions.shape != (length,):
        raise ArgumentError(f"{name} has shape {positions.shape}; ({length},) is needed.")
    if length == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(positions.dtype, np.integer):
        raise ArgumentError(f"{name} has dtype {positions.dtype}; whole numbers are needed.")
    outside = (positions < 0) | (positions >= class_count)
    if outside.any():
        where = int(outside.argmax())
        raise ArgumentError(
            f"{name}[{where}] is {positions[where]}; positions 0 to {class_count - 1} are allowed."
        )
    return positions.astype(np.int64)


def class_flags(
    name: str, values: ArrayLike, *, length: int, class_count: int
) -> NDArray[np.bool_]:
    """``values`` as (n, k) bool, True where a row has a class."""
    flags = np.asarray(values)
    if flags.shape != (length, class_count):
        raise ArgumentError(f"{name} has shape {flags.shape}; ({length}, {class_count}) is needed.")
    if flags.dtype != np.bool_:
        odd = np.setdiff1d(flags, [0, 1])
        if odd.size:
            raise ArgumentError(f"{name} holds {odd[0]}; only True and False are allowed.")
    return flags.astype(np.bool_)


def whole_numbers(name: str, values: ArrayLike, *, length: int) -> NDArray[np.int64]:
    """``values`` as (n,) int64."""
    numbers = np.asarray(values)
    if numbers.shape != (length,):
        raise ArgumentError(f"{name} has shape {numbers.shape}; ({length},) is needed.")
    if length and not np.issubdtype(numbers.dtype, np.integer):
        raise ArgumentError(f"{name} has dtype {numbers.dtype}; whole numbers are needed.")
    return numbers.astype(np.int64)


def row_flags(name: str, values: ArrayLike, *, length: int) -> NDArray[np.bool_]:
    """``values`` as (n,) bool."""
    flags = np.asarray(values)
    if flags.shape != (length,):
        raise ArgumentError(f"{name} has shape {flags.shape}; ({length},) is needed.")
    return class_flags(name, flags[:, None], length=length, class_count=1)[:, 0]


def row_weights(name: str, values: ArrayLike, *, length: int) -> NDArray[np.float64]:
    """``values`` as (n,) float64, finite and above 0."""
    weights = np.asarray(values, dtype=np.float64)
    if weights.shape != (length,):
        raise ArgumentError(f"{name} has shape {weights.shape}; ({length},) is needed.")
    wrong = ~(np.isfinite(weights) & (weights > 0))
    if wrong.any():
        where = int(wrong.argmax())
        raise ArgumentError(f"{name}[{where}] is {weights[where]}; a number above 0 is needed.")
    return weights


def share(name: str, value: float, *, above_zero: bool = False) -> float:
    """``value`` as a number in [0, 1], or (0, 1] with ``above_zero``."""
    if not (0 <= value <= 1) or (above_zero and value == 0):
        allowed = "(0, 1]" if above_zero else "[0, 1]"
        raise ArgumentError(f"{name} is {value!r}; {allowed} is allowed.")
    return float(value)


def inner_share(name: str, value: float) -> float:
    """``value`` as a number in (0, 1)."""
    if not 0 < value < 1:
        raise ArgumentError(f"{name} is {value!r}; (0, 1) is allowed.")
    return float(value)
