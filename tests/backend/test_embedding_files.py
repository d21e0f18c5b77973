"""Embeddings on disk outlive what was cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.embedding_files import EmbeddingFiles
from backend.errors import SetupError

WIDTH = 5


def vectors(rows: np.ndarray) -> np.ndarray:
    return (rows[:, None] + np.arange(WIDTH) / 8).astype(np.float16)


@given(
    batches=st.lists(st.lists(st.integers(0, 19), unique=True, max_size=8), max_size=4),
    cut=st.integers(0, 60),
)
def test_what_was_added_is_there_again(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("embeddings")
    everything, kept = np.arange(20), set()
    for batch in batches:
        rows = np.array(batch, dtype=np.int64)
        files = EmbeddingFiles(folder, count=20, width=WIDTH)
        files.add(rows, vectors(rows))
        kept |= set(batch)
        assert sorted(kept) == np.setdiff1d(everything, files.missing(everything)).tolist()
    known = np.array(sorted(kept), dtype=np.int64)[::-1]
    again = EmbeddingFiles(folder, count=20, width=WIDTH)
    np.testing.assert_array_equal(again.vectors(known), vectors(known))
    for path in folder.glob("*.embeddings"):
        path.write_bytes(path.read_bytes()[: max(0, path.stat().st_size - cut)])
    rest = EmbeddingFiles(folder, count=20, width=WIDTH)
    still = np.setdiff1d(everything, rest.missing(everything))
    assert set(still) <= kept
    if cut == 0:
        assert set(still) == kept
    np.testing.assert_array_equal(rest.vectors(still), vectors(still))


def test_an_image_that_cannot_be_read_is_not_asked_for_again(tmp_path: Path) -> None:
    rows = np.arange(4)
    files = EmbeddingFiles(tmp_path / "new", count=4, width=WIDTH)
    files.give_up(2, "It is torn.")
    for known in (files, EmbeddingFiles(tmp_path / "new", count=4, width=WIDTH)):
        assert known.missing(rows).tolist() == [0, 1, 3]
        assert known.readable(rows).tolist() == [True, True, False, True]
        assert known.unreadable == {2: "It is torn."}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SetupError, match="cannot be written"):
        EmbeddingFiles(tmp_path / "file" / "below", count=4, width=WIDTH)
