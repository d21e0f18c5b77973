"""Near-duplicates: which images show the same picture, found one after the other.

A picture that was saved again, made smaller or brightened has nearly the embedding that it had.
Images that are so near are one group, whose first image is its leader.
"""

from __future__ import annotations

from collections.abc import Iterator

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
_DIGITS = 9
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
    n (m + n) / 2 products of 129 numbers, and memory of (m + n) times 129 and a few blocks; of n
    up to 512 rows a few blocks alone.

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
        self.axes = _axes(self.unit(np.arange(0, total, max(1, total // _SAMPLE))))
        # Leaders that are gone through once are reduced on the way, and never all in memory.
        self.kept_from = self.m if self.n <= _ROWS else 0
        kept = np.arange(self.kept_from, total)
        self.kept = np.empty((len(kept), self.axes.shape[1] + 1), dtype=np.float32)
        for start in range(0, len(kept), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            self.kept[part] = _reduce(self.unit(kept[part]), self.axes)
        self.leads = np.zeros(total, dtype=np.bool_)
        self.leads[: self.m] = True

    def reduced(self, positions: NDArray[np.int64]) -> Array:
        """Rows at these positions, as :func:`_reduce` gives them; all before or all from the first
        one that is kept on."""
        if positions.size and positions[0] < self.kept_from:
            return _reduce(self.unit(positions), self.axes)
        return self.kept[positions - self.kept_from]

    def unit(self, positions: NDArray[np.int64]) -> Array:
        """Power-normalised rows at these positions of both arrays stacked."""
        return power_normalise(self._at(positions))

    def rooted(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Signed square roots of the rows at these positions, in double precision."""
        rows = self._at(positions).astype(np.float64)
        return np.asarray(np.sign(rows) * np.sqrt(np.abs(rows)))

    def _at(self, positions: NDArray[np.int64]) -> NDArray[np.floating]:
        inside = positions < self.m
        kind = np.result_type(self.before, self.rows)
        found = np.empty((len(positions), self.rows.shape[1]), dtype=kind)
        found[inside] = self.before[positions[inside]]
        found[~inside] = self.rows[positions[~inside] - self.m]
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
        rooted = self.rooted(block)
        nearest, leader = self._nearest(rooted, block, np.flatnonzero(self.leads[: block[0]]))
        for i, others in self._near_in_block(block):
            others = others[leader[others] == block[others]]
            if others.size:
                near = _cosines(rooted[i], rooted[others])
                best = int(near.argmax())
                if near[best] >= self.similarity and near[best] > nearest[i]:
                    leader[i] = block[others[best]]
        self.leads[block] = leader == block
        return leader

    def _nearest(
        self, rooted: NDArray[np.float64], block: NDArray[np.int64], others: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Of each row of a block, how near the nearest leader before the block is, and which it is.

        0 and the row itself where none is near enough.
        """
        nearest, leader = np.zeros(len(block)), block.copy()
        for start in range(0, len(others), _COLUMNS):
            some = others[start : start + _COLUMNS]
            bounds = self.reduced(block) @ self.reduced(some).T
            rows, columns = np.nonzero(bounds >= self.similarity - _SLACK)
            for pairs in range(0, len(rows), _PAIRS):
                row, column = rows[pairs : pairs + _PAIRS], columns[pairs : pairs + _PAIRS]
                known, where = np.unique(column, return_inverse=True)
                near = _cosines(rooted[row], self.rooted(some[known])[where])
                # The nearest last, and of equally near ones the earliest.
                order = np.lexsort((-column, near))
                better = order[near[order] >= self.similarity]
                better = better[near[better] > nearest[row[better]]]
                nearest[row[better]], leader[row[better]] = near[better], some[column[better]]
        return nearest, leader

    def _near_in_block(self, block: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Each row that may be near rows before it in the block, in order, and which these are."""
        mine = self.reduced(block)
        near = np.tril(mine @ mine.T >= self.similarity - _SLACK, -1)
        for i in np.flatnonzero(near.any(axis=1)).tolist():
            yield i, np.flatnonzero(near[i])


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) cosine of rows with rows, or of one row with rows."""
    lengths = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    # Rounded, so that copies are exactly 1, and leaders that are equally near are equal.
    cosines = (a * b).sum(axis=-1) / np.where(lengths > 0, lengths, 1)
    return np.asarray(np.round(cosines, _DIGITS), dtype=np.float64)


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
