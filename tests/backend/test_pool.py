from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.broken_images import failed_images
from backend.embedding_rows import from_bytes, to_bytes
from backend.engine import LocalEngine
from backend.images import ImageFetcher
from backend.pool import count_images, embed_chunk, first_missing
from backend.settings import Settings
from backend.tables import Embedding, ImageSource, TaskImage
from backend.task_rows import source_key
from backend.working_copies import WorkingCopies
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.peers import shared_decoders


@pytest.fixture
def settings(settings: Settings, real_weights: Path) -> Settings:
    return settings.model_copy(update={"weights_dir": real_weights, "input_size": 64})


def _data_uri(colour: tuple[int, int, int]) -> str:
    file = io.BytesIO()
    Image.new("RGB", (80, 60), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Pool:
    """The pool of a project whose images are data URIs, embedded for real."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self.tables = tables
        self.engine = LocalEngine(settings)
        self.fetcher = ImageFetcher(settings, None, decoders=shared_decoders())
        self.copies = WorkingCopies(settings.working_copies, settings.working_copy_side)

    def step(self, *, labelled_only: bool = False, size: int = 64) -> int:
        return embed_chunk(
            self.tables.store,
            self.fetcher,
            self.copies,
            self.engine,
            1,
            labelled_only=labelled_only,
            workers=2,
            size=size,
        )


@pytest.fixture
def pool(tables: Tables, settings: Settings) -> Pool:
    return Pool(tables, settings)


def test_every_image_is_embedded_once(pool: Pool) -> None:
    for n in range(1, 6):
        pool.tables.task(n, image=_data_uri((40 * n, 0, 0)))
    pool.tables.task(6, image=_data_uri((40, 0, 0)))
    assert [pool.step(size=3), pool.step(size=3), pool.step(size=3)] == [3, 2, 0]
    with pool.tables.store.read() as session:
        rows = {row.digest: row.vector for row in session.query(Embedding)}
        images = [session.get_one(ImageSource, i.source) for i in session.query(TaskImage)]
        digests = [image.digest for image in images]
        vectors = from_bytes([rows[str(digest)] for digest in digests])
        counts = count_images(session, 1, pool.engine.backbone)
    assert (vectors.dtype, vectors.shape) == (np.float16, (6, 1280))
    assert len(set(digests)) == 5
    assert np.array_equal(vectors[0], vectors[5])
    assert (counts.images, counts.embedded, counts.failed) == (5, 5, 0)


def test_a_broken_image_holds_nobody_up_and_says_why(pool: Pool) -> None:
    pool.tables.task(1, image=_data_uri((1, 2, 3)))
    pool.tables.task(2, image="data:image/png;base64,AAAA")
    pool.tables.task(3, image=_data_uri((4, 5, 6)))
    assert pool.step() == 3
    assert pool.step() == 0
    with pool.tables.store.read() as session:
        assert session.query(Embedding).count() == 2
        ((task_id, reason),) = failed_images(session, 1)
    assert task_id == 2
    assert reason


def test_a_passing_failure_is_tried_again_later(pool: Pool) -> None:
    # Without a Label Studio an upload cannot be had now, which may be different later.
    pool.tables.task(1, image="/data/upload/1/a.png")
    pool.step()
    with pool.tables.store.write() as session:
        (row,) = session.query(ImageSource).all()
        row.retry_at, row.attempts = time.time() - 1, 1
    assert pool.step() == 1
    assert pool.step() == 0


def test_labelled_images_come_first(pool: Pool) -> None:
    for n in range(1, 5):
        pool.tables.task(n, image=_data_uri((0, 50 * n, 0)))
    pool.tables.label(3, "cat")
    assert pool.step(labelled_only=True) == 1
    assert pool.step(labelled_only=True) == 0
    with pool.tables.store.read() as session:
        [kept] = session.query(Embedding)
        [image] = session.query(ImageSource).where(ImageSource.digest == kept.digest)
        assert image.source == source_key(_data_uri((0, 150, 0)))


def test_a_lost_working_copy_is_made_again(pool: Pool, settings: Settings) -> None:
    uri = _data_uri((9, 9, 9))
    digest = pool.fetcher.fetch(uri, 1)
    pool.copies.path(digest).unlink()
    pool.tables.task(1, image=uri)
    with pool.tables.store.write() as session:
        from backend.task_rows import source_key

        session.add(ImageSource(source=source_key(uri), digest=digest))
    assert pool.step() == 1
    with pool.tables.store.read() as session:
        assert count_images(session, 1, pool.engine.backbone).embedded == 1


@given(st.lists(st.lists(st.floats(width=16, allow_nan=False), min_size=3, max_size=3)))
def test_vectors_come_back_as_they_were(rows: list[list[float]]) -> None:
    vectors = np.array(rows, dtype=np.float16).reshape(len(rows), 3 if rows else 0)
    assert np.array_equal(from_bytes([to_bytes(v) for v in vectors]), vectors)


def test_the_search_for_the_next_image_goes_on_where_it_ended(tables: Tables) -> None:
    for task in (1, 3, 4):
        tables.task(task, np.eye(2, 16)[0])
    tables.task(2)
    tables.task(6)
    with tables.store.read() as session:
        found = [first_missing(session, 1, BACKBONE, begin) for begin in (0, 2, 3, 7)]
    assert found == [2, 2, 6, None]
