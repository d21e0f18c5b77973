"""Rows of the database as arrays, read bit by bit: a million rows are never all Python objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select
from sqlalchemy.orm import Session

DIGEST: Final = "S64"
"""A SHA-256 in hexadecimal, as NumPy keeps it."""
AT_ONCE: Final = 10_000


def in_parts(session: Session, query: Select[*tuple[Any, ...]]) -> Iterator[Sequence[Any]]:
    """The rows of a query, some thousand at a time."""
    yield from session.execute(query, execution_options={"yield_per": AT_ONCE}).partitions()


def read_ints(session: Session, query: Select[*tuple[Any, ...]]) -> NDArray[np.int64]:
    """(n, columns) int64 the rows of a query for whole numbers and flags."""
    return _read(session, query, np.dtype(np.int64))


def read_floats(session: Session, query: Select[*tuple[Any, ...]]) -> NDArray[np.float64]:
    """(n, columns) float64 the rows of a query for numbers, NaN where there is none."""
    return _read(session, query, np.dtype(np.float64))


def _read(session: Session, query: Select[*tuple[Any, ...]], dtype: np.dtype[Any]) -> NDArray[Any]:
    parts = [np.empty((0, len(query.selected_columns)), dtype=dtype)]
    for rows in in_parts(session, query):
        parts.append(
            np.column_stack([np.array(column, dtype) for column in zip(*rows, strict=True)])
        )
    return np.concatenate(parts)


class Images:
    """Vectors with their names, each put in its place as it comes.

    ``expected``: how many there will be about. Pages that nothing is written to take no memory, so
    too many cost nothing, and too few a copy.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._rows = np.zeros((0, 0), dtype=np.float16)
        self._names: list[NDArray[np.bytes_]] = []
        self._count = 0

    def add(self, vectors: Sequence[bytes], *names: Sequence[str]) -> None:
        """The next ones: little-endian float16 of one width, and digests of each."""
        flat = np.frombuffer(b"".join(vectors), dtype="<f2").reshape(len(vectors), -1)
        stop = self._count + len(flat)
        if stop > len(self._rows):
            grown = np.empty((max(self._expected, 2 * stop), flat.shape[1]), dtype=np.float16)
            if self._count:
                grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : stop] = flat
        self._names.append(np.array(names, dtype=DIGEST))
        self._count = stop

    @property
    def vectors(self) -> NDArray[np.float16]:
        """(n, width) float16; (0, 0) for none."""
        return self._rows[: self._count]

    def names(self, columns: int) -> NDArray[np.bytes_]:
        """(columns, n) the digests."""
        return np.concatenate([np.empty((columns, 0), dtype=DIGEST), *self._names], axis=1)
