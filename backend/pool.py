"""The images of a project: fetched once, embedded once per backbone, read back as arrays.

Every group of images (see :mod:`backend.image_pipeline`) is committed as soon as it is embedded, so
a killed trainer repeats at most the two that were under way. An image that cannot be had is written
down with its reason and, where trying again may help, with the time of the next try; it never holds
up the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from PIL.Image import Image
from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select
from sqlalchemy.orm import Session

from backend import clock
from backend.batches import SQL_SLICE, batched_lists
from backend.embedding_rows import add_embeddings, embedded_digests
from backend.engine import Engine, FarEngine
from backend.errors import ImageError
from backend.image_pipeline import Fetched, Wanted, embedded_groups, fetch_image
from backend.images import ImageFetcher
from backend.store import Store
from backend.tables import Embedding, ImageSource, Label, TaskImage
from backend.working_copies import WorkingCopies

CHUNK = 256


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
    engine: Engine,
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
    if isinstance(engine, FarEngine):
        # It builds on this module.
        from backend.far_pool import FarPool

        pool = FarPool(store, fetcher, copies, engine, workers, progress)
        return pool.embed_chunk(project_id, backbone, labelled_only=labelled_only)
    wanted = missing_images(
        store, project_id, backbone, size, from_task, labelled_only=labelled_only
    )
    if not wanted:
        return 0
    until = time.monotonic() + CHUNK_SECONDS

    def fetch(image: Wanted) -> Fetched | None:
        return fetch_image(fetcher, copies, image) if time.monotonic() <= until else None

    def embed(images: Sequence[Image]) -> NDArray[Any]:
        return engine.embed(images, backbone)

    def known(digests: Collection[str]) -> set[str]:
        return embedded_digests(store, digests, backbone)

    done = 0
    for group in embedded_groups(wanted, fetch, embed, workers, progress, known):
        with store.write() as session:
            _remember(session, group.fetched)
            add_embeddings(session, group.vectors, backbone)
        progress()
        done += len(group.fetched)
    return done


def missing_images(
    store: Store,
    project_id: int,
    backbone: str,
    size: int,
    from_task: int = 0,
    *,
    labelled_only: bool,
) -> list[Wanted]:
    """The next images that lack an embedding, of at most ``size`` tasks from ``from_task`` on."""
    with store.read() as session:
        query = _missing(project_id, backbone, from_task, labelled_only=labelled_only).limit(size)
        # Several tasks may show the same image.
        return list({row[0]: Wanted(*row) for row in session.execute(query)}.values())


def remember(store: Store, results: Sequence[Fetched]) -> None:
    """Write down which bytes each source led to, or why to none and when to try again."""
    with store.write() as session:
        _remember(session, results)


def remember_failure(store: Store, source: str, error: ImageError) -> None:
    """Write down why an image cannot be had, and when to try again."""
    remember(store, [Fetched(source, None, None, error)])


def remember_digest(store: Store, source: str, digest: str) -> None:
    """Write down which bytes a URI led to."""
    remember(store, [Fetched(source, digest, None, None)])


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
        and_(ImageSource.digest.is_(None), ImageSource.retry_at <= clock.now()),
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


def _remember(session: Session, results: Sequence[Fetched]) -> None:
    known: dict[str, ImageSource] = {}
    for sources in batched_lists([result.source for result in results], SQL_SLICE):
        rows = session.scalars(select(ImageSource).where(ImageSource.source.in_(sources)))
        known |= {row.source: row for row in rows}
    for result in results:
        row = known.get(result.source)
        if row is None:
            row = ImageSource(source=result.source, attempts=0)
            session.add(row)
        row.digest = result.digest
        row.failure = str(result.error) if result.error else ""
        row.attempts = row.attempts + 1 if result.error else 0
        row.retry_at = _retry_at(result.error, row.attempts)


def _retry_at(error: ImageError | None, attempts: int) -> float | None:
    if error is None or not error.retry:
        return None
    return clock.now() + RETRY_AFTER_SECONDS[min(attempts, len(RETRY_AFTER_SECONDS)) - 1]
