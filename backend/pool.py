"""The images of a project: fetched once, embedded once per backbone, read back as arrays.

Every chunk is committed before the next, so a killed trainer repeats at most one chunk. An image
that cannot be had is written down with its reason and, where trying again may help, with the time
of the next try; it never holds up the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select, update
from sqlalchemy.orm import Session

from backend.engine import LocalEngine
from backend.errors import ImageError
from backend.images import ImageFetcher, WorkingCopies
from backend.log_context import carried
from backend.metrics import count_embedded
from backend.store import Store
from backend.tables import Embedding, ImageSource, Label, Task, TaskImage

log = logging.getLogger(__name__)

CHUNK = 64
CHUNK_SECONDS = 60.0
"""Images of a chunk that are not begun by then wait for the next one."""
RETRY_AFTER_SECONDS = (30.0, 120.0, 600.0, 3600.0)


@dataclass(frozen=True)
class PoolCounts:
    """Distinct images of a project: all, embedded, and those that cannot be had."""

    images: int
    embedded: int
    failed: int


def embed_chunk(
    store: Store,
    fetcher: ImageFetcher,
    copies: WorkingCopies,
    engine: LocalEngine,
    project_id: int,
    *,
    labelled_only: bool,
    workers: int,
    size: int = CHUNK,
    backbone: str | None = None,
    progress: Callable[[], None] = lambda: None,
    from_task: int = 0,
) -> int:
    """Fetch and embed the next images that lack an embedding; how many were worked on.

    ``backbone``: identity of the network, by default the original. ``progress`` is called after
    each image. ``from_task``: no task with a lower number is looked at.
    """
    backbone = backbone or engine.backbone
    with store.read() as session:
        query = _missing(project_id, backbone, from_task, labelled_only=labelled_only).limit(size)
        # Several tasks may show the same image.
        wanted = list({row[0]: tuple(row) for row in session.execute(query)}.values())
    if not wanted:
        return 0
    until = time.monotonic() + CHUNK_SECONDS

    def fetch(row: tuple[str, str, int, str | None]) -> tuple[str, _Fetched] | None:
        if time.monotonic() > until:
            return None
        return row[0], _fetch(fetcher, copies, *row)

    with ThreadPoolExecutor(workers) as threads:
        fetched = {}
        for found in threads.map(carried(fetch), wanted):
            progress()
            if found is not None:
                fetched[found[0]] = found[1]
    _remember_sources(store, fetched)
    images = {r.digest: r.image for r in fetched.values() if r.digest and r.image is not None}
    embed_images(store, engine, images, backbone)
    return len(fetched)


def embed_images(
    store: Store, engine: LocalEngine, images: dict[str, Image], backbone: str
) -> None:
    """Embed images by digest and keep the embeddings."""
    if not images:
        return
    began = time.perf_counter()
    vectors = engine.embed(list(images.values()), backbone)
    count_embedded(len(images), time.perf_counter() - began)
    with store.write() as session:
        for digest, vector in zip(images, vectors, strict=True):
            row = Embedding(digest=digest, backbone=backbone, vector=to_bytes(vector))
            session.merge(row)


def remember_failure(store: Store, source: str, error: ImageError) -> None:
    """Write down why an image cannot be had, and when to try again."""
    _remember_sources(store, {source: _Fetched(None, None, error)})


def remember_digest(store: Store, source: str, digest: str) -> None:
    """Write down which bytes a URI led to."""
    _remember_sources(store, {source: _Fetched(digest, None, None)})


def to_bytes(vector: NDArray[Any]) -> bytes:
    """A vector as little-endian float16."""
    return vector.astype("<f2").tobytes()


def from_bytes(vectors: Sequence[bytes]) -> NDArray[Any]:
    """Vectors kept by :func:`to_bytes` as (n, width) float16; (0, 0) for none."""
    if not vectors:
        return np.zeros((0, 0), dtype=np.float16)
    flat = np.frombuffer(b"".join(vectors), dtype="<f2")
    return flat.reshape(len(vectors), -1).astype(np.float16, copy=False)


def count_images(session: Session, project_id: int, backbone: str | None) -> PoolCounts:
    """How many distinct images a project has, and how many of them are ready or broken."""
    sources = (
        select(TaskImage.source).where(TaskImage.project_id == project_id).distinct().subquery()
    )
    # An image may have been embedded by several networks.
    of_backbone = (Embedding.backbone == backbone,) if backbone else ()
    has_embedding = exists().where(Embedding.digest == ImageSource.digest, *of_backbone)
    has_failed = and_(ImageSource.digest.is_(None), ImageSource.failure != "")
    query = (
        select(func.count(), _how_many(has_embedding), _how_many(has_failed))
        .select_from(sources)
        .outerjoin(ImageSource, ImageSource.source == sources.c.source)
    )
    return PoolCounts(*session.execute(query).one())


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def lacks_embeddings(session: Session, project_id: int, backbone: str) -> bool:
    """Whether an image of the project is still to be fetched or embedded. One that failed is not,
    though it may be tried again."""
    query = (
        select(TaskImage.task_id)
        .outerjoin(ImageSource, ImageSource.source == TaskImage.source)
        .where(TaskImage.project_id == project_id, _untouched(backbone))
    )
    return session.scalar(query.limit(1)) is not None


def failed_images(session: Session, project_id: int, limit: int = 100) -> list[tuple[int, str]]:
    """Tasks whose image cannot be had, with the reason."""
    query = (
        select(TaskImage.task_id, ImageSource.failure)
        .join(ImageSource, ImageSource.source == TaskImage.source)
        .where(
            TaskImage.project_id == project_id,
            ImageSource.digest.is_(None),
            ImageSource.failure != "",
        )
        .order_by(TaskImage.task_id)
        .limit(limit)
    )
    return [(task_id, failure) for task_id, failure in session.execute(query)]


def broken_tasks(session: Session, project_id: int) -> set[int]:
    """Tasks that have no image at all, or only images that cannot be had."""
    pending_or_ready = (
        select(TaskImage.task_id)
        .outerjoin(ImageSource, ImageSource.source == TaskImage.source)
        .where(
            TaskImage.project_id == project_id,
            ImageSource.source.is_(None)
            | ImageSource.digest.is_not(None)
            | (ImageSource.failure == ""),
        )
    )
    return set(
        session.scalars(
            select(Task.id).where(Task.project_id == project_id, Task.id.not_in(pending_or_ready))
        )
    )


def next_retry(session: Session, project_id: int) -> float | None:
    """When the next image is tried again."""
    return session.scalar(
        select(func.min(ImageSource.retry_at))
        .join(TaskImage, TaskImage.source == ImageSource.source)
        .where(TaskImage.project_id == project_id, ImageSource.digest.is_(None))
    )


def _untouched(backbone: str) -> ColumnElement[bool]:
    """Of an image: neither is there an embedding, nor did it fail."""
    has_embedding = exists().where(
        Embedding.digest == ImageSource.digest, Embedding.backbone == backbone
    )
    return or_(
        ImageSource.source.is_(None),
        and_(ImageSource.digest.is_(None), ImageSource.failure == ""),
        and_(ImageSource.digest.is_not(None), ~has_embedding),
    )


def first_missing(session: Session, project_id: int, backbone: str, from_task: int) -> int | None:
    """The first task from that number on whose image is to be embedded now."""
    row = session.execute(_missing(project_id, backbone, from_task, labelled_only=False).limit(1))
    found = row.first()
    return found[2] if found else None


def _missing(
    project_id: int, backbone: str, from_task: int, *, labelled_only: bool
) -> Select[str, str, int, str | None]:
    untried = or_(
        _untouched(backbone),
        and_(ImageSource.digest.is_(None), ImageSource.retry_at <= time.time()),
    )
    query = (
        select(
            TaskImage.source,
            TaskImage.uri,
            TaskImage.task_id,
            ImageSource.digest,
        )
        .outerjoin(ImageSource, ImageSource.source == TaskImage.source)
        .where(TaskImage.project_id == project_id, TaskImage.task_id >= from_task, untried)
        .order_by(TaskImage.task_id)
    )
    if labelled_only:
        query = query.where(
            exists().where(
                Label.project_id == project_id,
                Label.task_id == TaskImage.task_id,
                Label.status == "agreed",
            )
        )
    return query


@dataclass(frozen=True)
class _Fetched:
    digest: str | None
    image: Image | None
    error: ImageError | None


def _fetch(
    fetcher: ImageFetcher,
    copies: WorkingCopies,
    source: str,
    uri: str,
    task_id: int,
    digest: str | None,
) -> _Fetched:
    try:
        if digest is None or not copies.has(digest):
            digest = fetcher.fetch(uri, task_id)
        return _Fetched(digest, copies.open(digest), None)
    except ImageError as error:
        log.warning("task %d: no image: %s", task_id, error)
        return _Fetched(None, None, error)


def _remember_sources(store: Store, results: dict[str, _Fetched]) -> None:
    with store.write() as session:
        for source, result in results.items():
            row = session.get(ImageSource, source) or ImageSource(source=source, attempts=0)
            session.add(row)
            row.digest = result.digest
            row.failure = str(result.error) if result.error else ""
            row.attempts = row.attempts + 1 if result.error else 0
            row.retry_at = _retry_at(result.error, row.attempts)


def _retry_at(error: ImageError | None, attempts: int) -> float | None:
    if error is None or not error.retry:
        return None
    return time.time() + RETRY_AFTER_SECONDS[min(attempts, len(RETRY_AFTER_SECONDS)) - 1]


def forget_failures(session: Session, project_id: int) -> None:
    """Try every broken image of a project again."""
    sources = select(TaskImage.source).where(TaskImage.project_id == project_id)
    session.execute(
        update(ImageSource)
        .where(ImageSource.source.in_(sources), ImageSource.digest.is_(None))
        .values(failure="", retry_at=None, attempts=0)
    )
