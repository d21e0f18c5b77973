"""Groups of near-duplicates: written down once for each image, and read with its embedding.

Groups are found by the original backbone and never change, whichever network serves later, so that
an image that is in the audit set stays in it. An image counts as known, to train on, to measure or
to queue, when it has its group: what looks like an audit image is never trained on by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, distinct, exists, func, insert, select
from sqlalchemy.orm import Session

from backend.arrays import Images, in_parts, read_ints
from backend.batches import SQL_SLICE
from backend.lease import Leases
from backend.store import Store
from backend.tables import Embedding, ImageGroup, ImageSource, Label, Task, TaskImage
from model.audit import in_audit
from model.duplicates import find_leaders

AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class KnownImages:
    """The n images of a project's tasks under one data key that are embedded and have a group.

    ``task_ids``    (n,) int64, ascending
    ``embeddings``  (n, width) float16
    ``leaders``     (n,) bytes, of each image the SHA-256 of the one that leads its group
    ``digests``     (n,) bytes, the SHA-256 of the images; (0,) where they were not asked for
    """

    task_ids: NDArray[np.int64]
    embeddings: NDArray[np.float16]
    leaders: NDArray[np.bytes_]
    digests: NDArray[np.bytes_]

    def in_audit(self, share: float) -> NDArray[np.bool_]:
        """(n,) which images are in the audit set."""
        names, place = np.unique(self.leaders, return_inverse=True)
        drawn = [in_audit(leader.decode(), share) for leader in names.tolist()]
        return np.array(drawn, dtype=np.bool_)[place]


def known_images(
    session: Session,
    project_id: int,
    data_key: str,
    backbone: str,
    *conditions: ColumnElement[bool],
    with_digests: bool = False,
) -> KnownImages:
    """The known images, with their embeddings by the network ``backbone``.

    ``conditions`` narrow the tasks down, in terms of :class:`TaskImage`. The embeddings are read
    into their place one after the other, and are nowhere else in memory.
    """
    of_key = (TaskImage.project_id == project_id, TaskImage.data_key == data_key, *conditions)
    most = session.scalar(select(func.count()).select_from(TaskImage).where(*of_key)) or 0
    images, task_ids = Images(most), [np.zeros(0, dtype=np.int64)]
    columns = [TaskImage.task_id, Embedding.vector, ImageGroup.leader]
    if with_digests:
        columns.append(Embedding.digest)
    query = _known(select(*columns), project_id, backbone).where(*of_key)
    for rows in in_parts(session, query.order_by(TaskImage.task_id)):
        numbers, *found = zip(*rows, strict=True)
        task_ids.append(np.array(numbers, dtype=np.int64))
        images.add(*found)
    names = images.names(1 + with_digests)
    return KnownImages(np.concatenate(task_ids), images.vectors, names[0], names[1:].ravel())


def known_task_ids(
    session: Session,
    project_id: int,
    data_key: str,
    backbone: str,
    *conditions: ColumnElement[bool],
) -> NDArray[np.int64]:
    """(n,) int64 the tasks of :func:`known_images`, without reading an embedding."""
    query = _known(select(TaskImage.task_id), project_id, backbone).where(
        TaskImage.project_id == project_id, TaskImage.data_key == data_key, *conditions
    )
    return read_ints(session, query.order_by(TaskImage.task_id))[:, 0]


def _known(
    query: Select[*tuple[Any, ...]], project_id: int, backbone: str
) -> Select[*tuple[Any, ...]]:
    """The images of :class:`TaskImage` that are embedded and have a group."""
    return (
        query.join(ImageSource, ImageSource.source == TaskImage.source)
        .join(Embedding, Embedding.digest == ImageSource.digest)
        .join(
            ImageGroup,
            (ImageGroup.project_id == project_id) & (ImageGroup.digest == Embedding.digest),
        )
        .where(Embedding.backbone == backbone)
    )


def leaders_of(session: Session, project_id: int, digests: Sequence[str]) -> dict[str, str]:
    """Digest → that of the leader of its group; an image without a group yet leads itself."""
    found = {digest: digest for digest in digests}
    for start in range(0, len(digests), SQL_SLICE):
        query = select(ImageGroup.digest, ImageGroup.leader).where(
            ImageGroup.project_id == project_id,
            ImageGroup.digest.in_(digests[start : start + SQL_SLICE]),
        )
        found.update((digest, leader) for digest, leader in session.execute(query))
    return found


def groups_of_tasks(
    session: Session, project_id: int, task_ids: Sequence[int]
) -> dict[int, dict[str, str]]:
    """Task → data key → the leader of its image's group, for images that have one."""
    found: dict[int, dict[str, str]] = {}
    for start in range(0, len(task_ids), SQL_SLICE):
        rows = session.execute(
            select(TaskImage.task_id, TaskImage.data_key, ImageGroup.leader)
            .join(ImageSource, ImageSource.source == TaskImage.source)
            .join(
                ImageGroup,
                (ImageGroup.project_id == project_id) & (ImageGroup.digest == ImageSource.digest),
            )
            .where(
                TaskImage.project_id == project_id,
                TaskImage.task_id.in_(task_ids[start : start + SQL_SLICE]),
            )
            .order_by(TaskImage.data_key)
        )
        for task_id, data_key, leader in rows:
            found.setdefault(task_id, {})[data_key] = leader
    return found


def count_ungrouped(
    session: Session, project_id: int, backbone: str, *, labelled_only: bool = False
) -> int:
    """How many embedded images have no group yet."""
    query = _ungrouped(project_id, backbone, labelled_only)
    count = query.with_only_columns(func.count(distinct(Embedding.digest)))
    return session.scalar(count) or 0


def lacks_groups(session: Session, project_id: int) -> bool:
    """Whether an image of the project that could be had has no group yet."""
    grouped = exists().where(
        ImageGroup.project_id == project_id, ImageGroup.digest == ImageSource.digest
    )
    query = (
        select(TaskImage.task_id)
        .join(ImageSource, ImageSource.source == TaskImage.source)
        .where(TaskImage.project_id == project_id, ImageSource.digest.is_not(None), ~grouped)
    )
    return session.scalar(query.limit(1)) is not None


def count_known(session: Session, project_id: int, backbone: str) -> tuple[int, int]:
    """How many tasks have a known image, and how many of those are still in the queue."""
    rows = session.execute(
        select(Task.is_labeled, func.count(distinct(Task.id)))
        .join(TaskImage, (TaskImage.project_id == project_id) & (TaskImage.task_id == Task.id))
        .join(ImageSource, ImageSource.source == TaskImage.source)
        .join(Embedding, Embedding.digest == ImageSource.digest)
        .join(
            ImageGroup,
            (ImageGroup.project_id == project_id) & (ImageGroup.digest == Embedding.digest),
        )
        .where(Task.project_id == project_id, Embedding.backbone == backbone)
        .group_by(Task.is_labeled)
    )
    done, waiting = 0, 0
    for is_labeled, count in rows:
        done, waiting = (count, waiting) if is_labeled else (done, count)
    return done + waiting, waiting


def group_images(
    store: Store, leases: Leases, project_id: int, backbone: str, *, labelled_only: bool = False
) -> int:
    """Give the next embedded images their group, the first tasks' first; how many there were.

    ``backbone`` is the identity of the original one. All of them are written at once or none.
    """
    with store.read() as session:
        query = (
            _ungrouped(project_id, backbone, labelled_only)
            .group_by(Embedding.digest, Embedding.backbone)
            .order_by(func.min(TaskImage.task_id), Embedding.digest)
        )
        digests, vectors = _read(session, query.limit(AT_ONCE), AT_ONCE)
        if not len(digests):
            return 0
        before, theirs = _leaders(session, project_id, backbone)
    led = find_leaders(vectors, theirs if len(before) else None)
    leaders = np.concatenate([before, digests])[led]
    rows = [
        {"project_id": project_id, "digest": digest, "leader": leader}
        for digest, leader in zip(_texts(digests), _texts(leaders), strict=True)
    ]
    with store.write() as session:
        leases.check(session, project_id)
        session.execute(insert(ImageGroup), rows)
    return len(digests)


def _ungrouped(project_id: int, backbone: str, labelled_only: bool) -> Select[str, bytes]:
    """Digest and embedding of the images of tasks that have no group."""
    grouped = exists().where(
        ImageGroup.project_id == project_id, ImageGroup.digest == Embedding.digest
    )
    query = (
        select(Embedding.digest, Embedding.vector)
        .join(ImageSource, ImageSource.digest == Embedding.digest)
        .join(TaskImage, TaskImage.source == ImageSource.source)
        .where(TaskImage.project_id == project_id, Embedding.backbone == backbone, ~grouped)
    )
    if not labelled_only:
        return query
    return query.where(
        exists().where(Label.project_id == project_id, Label.task_id == TaskImage.task_id)
    )


def _leaders(
    session: Session, project_id: int, backbone: str
) -> tuple[NDArray[np.bytes_], NDArray[np.float16]]:
    """The leaders so far in the order in which they were found, and their embeddings."""
    leading = (ImageGroup.project_id == project_id, ImageGroup.leader == ImageGroup.digest)
    most = session.scalar(select(func.count()).select_from(ImageGroup).where(*leading)) or 0
    query = (
        select(ImageGroup.digest, Embedding.vector)
        .join(Embedding, Embedding.digest == ImageGroup.digest)
        .where(*leading, Embedding.backbone == backbone)
        .order_by(ImageGroup.id)
    )
    return _read(session, query, most)


def _read(
    session: Session, query: Select[str, bytes], most: int
) -> tuple[NDArray[np.bytes_], NDArray[np.float16]]:
    """About ``most`` rows of digests and embeddings, as arrays."""
    images = Images(most)
    for rows in in_parts(session, query):
        digests, vectors = zip(*rows, strict=True)
        images.add(vectors, digests)
    return images.names(1)[0], images.vectors


def _texts(digests: NDArray[np.bytes_]) -> list[str]:
    return [digest.decode() for digest in digests.tolist()]
