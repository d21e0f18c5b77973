"""What a prediction reads: few statements, made once, all on one state of the tables.

They name tables and not classes, which spares the object mapper's work: of a prediction for a
known image that is most of the time. An order is never changed once it is written, so the last one
of each project stays in memory, with its places.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Connection, Table, and_, bindparam, select

from backend.batches import SQL_SLICE
from backend.embedding_rows import from_bytes
from backend.promises import LIVE
from backend.tables import (
    AutoLabel,
    AutoRun,
    Embedding,
    ImageGroup,
    ImageSource,
    Order,
    Project,
    Task,
)
from backend.task_rows import source_key

MOST_ORDERS = 32


def _table(kind: Any) -> Table:
    table: Table = kind.__table__
    return table


_projects, _orders, _tasks = _table(Project), _table(Order), _table(Task)
_sources, _embeddings, _groups = _table(ImageSource), _table(Embedding), _table(ImageGroup)
_auto_runs, _auto_labels = _table(AutoRun), _table(AutoLabel)

_PROJECT = select(_projects.c.champion, _projects.c.label_config).where(
    _projects.c.id == bindparam("project")
)
_NEWEST = (
    select(_orders.c.number, _orders.c.created_at)
    .where(_orders.c.project_id == bindparam("project"), _orders.c.version == bindparam("version"))
    .order_by(_orders.c.number.desc())
    .limit(1)
)
_ORDER = select(_orders).where(
    _orders.c.project_id == bindparam("project"),
    _orders.c.version == bindparam("version"),
    _orders.c.number == bindparam("number"),
)
_IMAGES = (
    select(
        _sources.c.source,
        _sources.c.digest,
        _sources.c.failure,
        _embeddings.c.vector,
        _groups.c.leader,
    )
    .outerjoin_from(
        _sources,
        _embeddings,
        and_(
            _embeddings.c.digest == _sources.c.digest,
            _embeddings.c.backbone == bindparam("backbone"),
        ),
    )
    .outerjoin(
        _groups,
        and_(_groups.c.project_id == bindparam("project"), _groups.c.digest == _sources.c.digest),
    )
    .where(_sources.c.source.in_(bindparam("sources", expanding=True)))
)
_PUSHED = select(_tasks.c.id, _tasks.c.pushed_score).where(
    _tasks.c.project_id == bindparam("project"),
    _tasks.c.id.in_(bindparam("tasks", expanding=True)),
    _tasks.c.pushed_version == bindparam("version"),
    _tasks.c.pushed_order == bindparam("number"),
    _tasks.c.pushed_score.is_not(None),
)

_CHECKS = (
    select(_auto_labels.c.task_id)
    .join(_auto_runs, _auto_runs.c.id == _auto_labels.c.run_id)
    .where(
        _auto_runs.c.project_id == bindparam("project"),
        _auto_runs.c.state.in_(LIVE),
        _auto_labels.c.check,
        _auto_labels.c.task_id.in_(bindparam("tasks", expanding=True)),
    )
)


@dataclass(frozen=True, eq=False)
class KnownImage:
    """What is known of an image address.

    ``digest``  of its bytes; None where it was never fetched, or cannot be had
    ``leader``  digest of the image that leads its group; its own without a group; None without one
    ``vector``  (width,) float16 by the network that was asked for, None where there is none
    ``broken``  it cannot be had
    """

    digest: str | None
    leader: str | None
    vector: NDArray[Any] | None
    broken: bool


def read_project(rows: Connection, project_id: int) -> tuple[int, str]:
    """The version that serves, 0 for none, and the labelling config."""
    found = rows.execute(_PROJECT, {"project": project_id}).first()
    return (found[0], found[1]) if found else (0, "")


def read_images(
    rows: Connection, project_id: int, uris: Collection[str], backbone: str
) -> dict[str, KnownImage]:
    """Address → what is known of it, with its embedding by the network ``backbone``."""
    by_key = {source_key(uri): uri for uri in uris}
    keys, found = list(by_key), {}
    for start in range(0, len(keys), SQL_SLICE):
        given = {
            "project": project_id,
            "backbone": backbone,
            "sources": keys[start : start + SQL_SLICE],
        }
        for source, digest, failure, vector, leader in rows.execute(_IMAGES, given):
            found[by_key[source]] = KnownImage(
                digest,
                leader or digest,
                None if vector is None else from_bytes([vector])[0],
                digest is None and failure != "",
            )
    return found


def read_pushed(
    rows: Connection, project_id: int, order: Order, task_ids: Collection[int]
) -> dict[int, float]:
    """Task → the score that Label Studio holds of an order, as far as that is known."""
    ids, found = list(task_ids), dict[int, float]()
    for start in range(0, len(ids), SQL_SLICE):
        given = {
            "project": project_id,
            "version": order.version,
            "number": order.number,
            "tasks": ids[start : start + SQL_SLICE],
        }
        found.update((task_id, score) for task_id, score in rows.execute(_PUSHED, given))
    return found


def read_checks(rows: Connection, project_id: int, task_ids: Collection[int]) -> set[int]:
    """Those of the tasks that a promise left to people as a check."""
    ids, found = list(task_ids), set[int]()
    for start in range(0, len(ids), SQL_SLICE):
        given = {"project": project_id, "tasks": ids[start : start + SQL_SLICE]}
        found.update(rows.execute(_CHECKS, given).scalars())
    return found


class NewestOrders:
    """The newest orders of the projects that were asked about last, in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Order] = OrderedDict()

    def get(self, rows: Connection, project_id: int, version: int) -> Order | None:
        """The last order of a version, as :func:`backend.orders.newest_order`; in no session."""
        given = {"project": project_id, "version": version}
        newest = rows.execute(_NEWEST, given).first()
        if newest is None:
            return None
        stamp = (version, newest.number, newest.created_at)
        with self._lock:
            kept = self._kept.get(project_id)
        if kept is not None and (kept.version, kept.number, kept.created_at) == stamp:
            return kept
        row = rows.execute(_ORDER, given | {"number": newest.number}).one()
        order = Order(**row._mapping)
        with self._lock:
            self._kept[project_id] = order
            self._kept.move_to_end(project_id)
            while len(self._kept) > MOST_ORDERS:
                self._kept.popitem(last=False)
        return order
