"""Embeddings of the images of a data set on disk, so that an experiment embeds each image once.

A folder belongs to one data set and one network. Every process appends to a file of its own:
fixed records of a row number and a vector, each batch flushed before the next. A kill leaves at
most one record that is cut; it is skipped, and what follows goes to another file. A vector that is
there twice is the same but for rounding; either counts.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.errors import SetupError
from backend.results_file import ResultsFile

Rows = NDArray[np.int64]


class EmbeddingFiles:
    """Vectors of ``width`` numbers by the row of their image, 0 to ``count`` - 1.

    :class:`SetupError` where the folder cannot be written.
    """

    def __init__(self, folder: Path, *, count: int, width: int) -> None:
        self._folder = folder
        self._width = width
        self._record = np.dtype([("row", "<i8"), ("vector", "<f2", (width,))])
        self._own = folder / f"{uuid.uuid4().hex}.embeddings"
        self._unreadable = ResultsFile(folder / "unreadable.jsonl")
        self._known = np.zeros(count, dtype=np.bool_)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_be_written(error) from None
        for records in self._files():
            self._known[records["row"]] = True
        #: Why images cannot be read, by row.
        self.unreadable = {
            int(key): str(found["why"]) for key, found in self._unreadable.rows().items()
        }

    def missing(self, rows: Rows) -> Rows:
        """Those of ``rows`` that are neither embedded nor known to be unreadable."""
        return rows[~self._known[rows] & self.readable(rows)]

    def readable(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,) which of ``rows`` are not known to be unreadable."""
        return ~np.isin(rows, list(self.unreadable))

    def add(self, rows: Rows, vectors: NDArray[np.float16]) -> None:
        """Keep (n, width) vectors, on disk when this returns."""
        records = np.empty(len(rows), dtype=self._record)
        records["row"], records["vector"] = rows, vectors
        try:
            with self._own.open("ab") as file:
                file.write(records.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._cannot_be_written(error) from None
        self._known[rows] = True

    def give_up(self, row: int, why: str) -> None:
        """Remember that an image cannot be read."""
        self._unreadable.add({"key": str(row), "why": why})
        self.unreadable[row] = why

    def vectors(self, rows: Rows) -> NDArray[np.float16]:
        """(n, width) float16 in the order of ``rows``, each of which is embedded."""
        found = np.empty((len(rows), self._width), dtype=np.float16)
        for records in self._files():
            place = np.full(len(self._known), -1, dtype=np.int64)
            place[records["row"]] = np.arange(len(records))
            here = place[rows]
            found[here >= 0] = records["vector"][here[here >= 0]]
        return found

    def _files(self) -> list[np.memmap[tuple[int], np.dtype[np.void]]]:
        """The whole records of every file."""
        found = []
        for path in sorted(self._folder.glob("*.embeddings")):
            whole = path.stat().st_size // self._record.itemsize
            if whole:
                found.append(np.memmap(path, dtype=self._record, mode="r", shape=(whole,)))
        return found

    def _cannot_be_written(self, error: OSError) -> SetupError:
        return SetupError(
            f"{self._own} cannot be written ({error.strerror}).",
            mend="Free some space there, or name another folder with TIEBREAK_DATA_DIR.",
        )
