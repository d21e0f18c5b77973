"""Near-duplicates: which images show the same picture, found one after the other.

A picture that was saved again, made smaller or brightened has nearly the embedding that it had.
Images that are so near are one group, whose first image is its leader.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import check_finite
from model.errors import ArgumentError
from model.head import power_normalise

Array = NDArray[np.float32]

SIMILARITY = 0.97
"""Cosine similarity from which on two images are near-duplicates; docs/audit.md has the
measurements."""

# What a similarity in single precision may be off by.
_SLACK = 1e-4
_AXES, _SAMPLE = 128, 512
_ROWS, _COLUMNS, _PAIRS = 512, 8192, 4096


def find_leaders(
    embeddings: ArrayLike, leaders: ArrayLike | None = None, *, similarity: float = SIMILARITY
) -> NDArray[np.int64]:
    """(n, d) embeddings -> (n,) int64: which image leads each row's group of near-duplicates.

    The leader algorithm (Hartigan, *Clustering Algorithms*, 1975, chapter 3). Rows come in order:
    each joins the most similar of the leaders before it (the earliest, where several are) if the
    cosine of their power-normalised embeddings is at least ``similarity``, and else leads a group
    of its own. Members are compared with leaders only, so groups do not chain: all of a group are
    near one picture. A row of zeros is near nothing.

    ``leaders`` (m, d) are those found before, in the order in which they were found. The result is
    positions in [leaders; rows] stacked: below m for an earlier leader, m + i for row i, which
    leads where it is its own. So groups can be found in several goes with the same result as in
    one, and no image ever changes its group.

    Exact: pairs are ruled out by a bound, and the rest compared in double precision. It takes
    n (m + n) / 2 products of 129 numbers, and memory of (m + n) times 129 and a few blocks.

    ArgumentError when an array is not finite (n, d) numbers of one width, or ``similarity`` is not
    in (0, 1].
    """
    if not 0 < similarity <= 1:
        raise ArgumentError(f"similarity is {similarity!r}; (0, 1] is allowed.")
    rows = _checked("embeddings", embeddings, None)
    before = _checked("leaders", rows[:0] if leaders is None else leaders, rows.shape[1])
    return _Groups(before, rows, similarity).led()


class _Groups:
    """The rows of two arrays as one, and who leads each."""

    def __init__(self, before: NDArray[np.floating], rows: NDArray[np.floating], similarity: float):
        self.before, self.rows, self.similarity = before, rows, similarity
        self.m, self.n = len(before), len(rows)
        total = self.m + self.n
        axes = _axes(self.unit(np.arange(0, total, max(1, total // _SAMPLE))))
        self.reduced = np.empty((total, axes.shape[1] + 1), dtype=np.float32)
        for start in range(0, total, _COLUMNS):
            block = np.arange(start, min(start + _COLUMNS, total))
            self.reduced[block] = _reduce(self.unit(block), axes)
        self.leads = np.zeros(total, dtype=np.bool_)
        self.leads[: self.m] = True

    def unit(self, positions: NDArray[np.int64]) -> Array:
        """Power-normalised rows at these positions of both arrays stacked."""
        inside = positions < self.m
        found = np.empty((len(positions), self.rows.shape[1]), dtype=np.float32)
        found[inside] = power_normalise(self.before[positions[inside]])
        found[~inside] = power_normalise(self.rows[positions[~inside] - self.m])
        return found

    def led(self) -> NDArray[np.int64]:
        """(n,) position of each row's leader."""
        found = np.empty(self.n, dtype=np.int64)
        for start in range(self.m, self.m + self.n, _ROWS):
            block = np.arange(start, min(start + _ROWS, self.m + self.n))
            found[block - self.m] = self._lead(block)
        return found

    def _lead(self, block: NDArray[np.int64]) -> NDArray[np.int64]:
        """The leaders of the next rows, when all before them have theirs."""
        others = np.append(np.flatnonzero(self.leads[: block[0]]), block)
        row, column = self._near(block, others)
        earlier = others[column] < block[row]
        row, column = row[earlier], column[earlier]
        near = self._similarities(block[row], others[column])
        kept = near >= self.similarity
        leader = block.copy()
        # Nearest first, and of equally near ones the earliest.
        order = np.lexsort((others[column[kept]], -near[kept], row[kept]))
        pairs = zip(row[kept][order], others[column[kept]][order], strict=True)
        settled = -1
        self.leads[block] = True
        for i, other in pairs:
            if i != settled and self.leads[other]:
                leader[i], settled = other, i
                self.leads[block[i]] = False
        return leader

    def _near(
        self, block: NDArray[np.int64], others: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in ``block`` and in ``others`` of pairs that may be similar enough."""
        mine = self.reduced[block]
        rows, columns = [], []
        for start in range(0, len(others), _COLUMNS):
            bounds = mine @ self.reduced[others[start : start + _COLUMNS]].T
            row, column = np.nonzero(bounds >= self.similarity - _SLACK)
            rows.append(row)
            columns.append(column + start)
        return np.concatenate(rows), np.concatenate(columns)

    def _similarities(
        self, one: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        found = np.empty(len(one))
        for start in range(0, len(one), _PAIRS):
            pairs = slice(start, start + _PAIRS)
            a, b = (self.unit(p[pairs]).astype(np.float64) for p in (one, other))
            found[pairs] = np.einsum("ij,ij->i", a, b)
        return np.round(found, 7)


def _axes(unit: Array) -> Array:
    """(d, k) orthonormal columns, in which the (s, d) rows of a sample have most of their length.

    Any orthonormal columns would do; the better they are, the fewer pairs are left to compare.
    """
    sample = unit.astype(np.float64)
    _, vectors = np.linalg.eigh(sample @ sample.T)
    strongest = vectors[:, ::-1][:, : min(_AXES, *sample.shape)]
    return np.asarray(np.linalg.qr(sample.T @ strongest)[0], dtype=np.float32)


def _reduce(unit: Array, axes: Array) -> Array:
    """(n, d) rows of length 1 -> (n, k + 1), products of which are at least the rows' own.

    The last number is the length of what the axes leave out: by Cauchy and Schwarz, the product of
    two such lengths is at least the product of what was left out.
    """
    inside = unit @ axes
    left = np.maximum((unit**2).sum(axis=1) - (inside**2).sum(axis=1), 0)
    return np.column_stack([inside, np.sqrt(left)])


def _checked(name: str, values: ArrayLike, width: int | None) -> NDArray[np.floating]:
    try:
        rows = np.asarray(values)
        if not np.issubdtype(rows.dtype, np.floating):
            rows = rows.astype(np.float32)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} is not an array of numbers.") from None
    wanted = "(n, d)" if width is None else f"(m, {width})"
    if rows.ndim != 2 or rows.shape[1] == 0 or (width is not None and rows.shape[1] != width):
        raise ArgumentError(f"{name} has shape {rows.shape}; {wanted} is needed.")
    check_finite(name, rows)
    return rows
