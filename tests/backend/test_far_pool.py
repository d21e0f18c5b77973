"""Images that are fetched here and embedded elsewhere: what is written down, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy import select

from backend.embedding_rows import embedded_digests, keep_embeddings
from backend.engine import Embedded, FarEngine
from backend.far_pool import FarPool
from backend.image_pipeline import Fetched
from backend.images import ImageFetcher
from backend.pool import count_images, remember
from backend.tables import ImageSource
from backend.working_copies import WorkingCopies
from model.errors import StorageError
from tests.backend.conftest import BACKBONE, Tables


class Elsewhere(FarEngine):
    """Other machines that embed each image as ones, and count."""

    loaded = True
    backbone = BACKBONE
    chunk = 2000

    def __init__(self) -> None:
        self.embedded = 0

    def can_embed(self, backbone: str) -> bool:
        return True

    def embed_copies(self, digests: Sequence[str], backbone: str) -> Iterator[Embedded]:
        self.embedded += len(digests)
        yield Embedded(list(digests), np.ones((len(digests), 4), np.float16), {})

    def close(self) -> None:
        pass


class FullDisk:
    """Fetches images until one of them finds no space."""

    def __init__(self, fails_at: int) -> None:
        self._fails_at = fails_at

    def fetch(self, uri: str, task_id: int) -> str:
        if task_id == self._fails_at:
            raise StorageError("The disk is full.")
        return f"{task_id:064x}"


def test_what_was_fetched_before_the_disk_was_full_is_written_down(
    tables: Tables, tmp_path: Path
) -> None:
    for task in range(1, 301):
        tables.task(task)
    engine = Elsewhere()

    def go(fails_at: int) -> int:
        fetcher = cast(ImageFetcher, FullDisk(fails_at))
        copies = WorkingCopies(tmp_path, 96)
        pool = FarPool(tables.store, fetcher, copies, engine, 2, lambda: None)
        return pool.embed_chunk(1, BACKBONE, labelled_only=False)

    with pytest.raises(StorageError, match="The disk is full"):
        go(fails_at=250)
    with tables.store.read() as session:
        known = session.scalars(select(ImageSource.digest)).all()
    assert 240 <= len(known) <= 249 + 2 * 2
    assert go(fails_at=0) == 300
    assert engine.embedded == 300
    with tables.store.read() as session:
        assert count_images(session, 1, BACKBONE).embedded == 300


def test_more_images_than_one_statement_may_name(tables: Tables) -> None:
    digests = [f"{n:064x}" for n in range(1700)]
    found = [Fetched(f"s{n}", digest, None, None) for n, digest in enumerate(digests)]
    remember(tables.store, found)
    remember(tables.store, found)
    vectors: dict[str, Any] = {digest: np.ones(4, np.float16) for digest in digests[::2]}
    keep_embeddings(tables.store, vectors, BACKBONE)
    assert embedded_digests(tables.store, digests, BACKBONE) == set(digests[::2])
    assert embedded_digests(tables.store, [], BACKBONE) == set()
