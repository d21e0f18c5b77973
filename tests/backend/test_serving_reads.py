"""What a prediction reads by tables is what the object mapper would say."""

from __future__ import annotations

import numpy as np
from sqlalchemy import event

from backend.groups import leaders_of
from backend.orders import newest_order, pack_places, places_of
from backend.serving_reads import NewestOrders, read_images, read_project, read_pushed
from backend.tables import ImageSource, Order, Project, Task
from backend.task_rows import source_key
from tests.backend.conftest import BACKBONE, Tables


def add_order(tables: Tables, version: int, number: int, places: dict[int, float]) -> None:
    with tables.store.write() as session:
        session.add(
            Order(
                project_id=1,
                version=version,
                number=number,
                created_at=float(number),
                reason="",
                strategy="margin",
                audit_share=0.1,
                pace=0.1,
                known=len(places),
                picks=[],
                places=pack_places(sorted(places), [places[t] for t in sorted(places)]),
                scale={"queue": [[0.0, 0.5]]},
            )
        )


def test_images_come_with_embedding_and_leader(tables: Tables) -> None:
    first = tables.task(1, np.arange(4.0))
    tables.task(2, np.arange(4.0) + 1, leader=first)
    alone = tables.task(3, np.arange(4.0) + 2, leader=None)
    tables.task(4)
    with tables.store.write() as session:
        session.add(ImageSource(source=source_key("/data/4.png"), failure="it is no image"))
    uris = [f"/data/{n}.png" for n in range(1, 6)]
    with tables.store.look() as rows:
        found = read_images(rows, 1, uris, BACKBONE)
        other = read_images(rows, 1, uris, "another-network")
        stranger = read_images(rows, 2, uris, BACKBONE)
    assert sorted(found) == uris[:4]
    assert [found[uri].leader for uri in uris[:4]] == [first, first, alone, None]
    assert [found[uri].broken for uri in uris[:4]] == [False, False, False, True]
    for n in range(3):
        np.testing.assert_array_equal(found[uris[n]].vector, np.arange(4.0) + n)
    assert found[uris[3]].vector is None
    assert all(image.vector is None for image in other.values())
    with tables.store.read() as session:
        theirs = leaders_of(session, 2, [first, alone])
    assert [stranger[uris[0]].leader, stranger[uris[2]].leader] == [theirs[first], theirs[alone]]


def test_the_newest_order_is_read_once_and_followed(tables: Tables) -> None:
    read: list[str] = []
    event.listen(
        tables.store.engine, "before_cursor_execute", lambda *said: read.append(str(said[2]))
    )
    orders = NewestOrders()
    with tables.store.look() as rows:
        assert orders.get(rows, 1, 1) is None
    for number, places in enumerate(({1: 0.25, 2: 0.5}, {2: 0.125})):
        add_order(tables, 1, number, places)
        for _ in range(3):
            with tables.store.look() as rows:
                found = orders.get(rows, 1, 1)
            with tables.store.read() as session:
                expected = newest_order(session, 1, 1)
            assert found is not None
            assert expected is not None
            assert (found.name, found.strategy) == (expected.name, expected.strategy)
            assert dict(places_of(found)) == dict(places_of(expected)) == places
    with tables.store.look() as rows:
        assert orders.get(rows, 1, 2) is None
    # By this module alone the places were asked for once for each order.
    assert sum("orders.number = ?" in statement for statement in read) == 2


def test_the_champion_and_what_was_sent_are_read(tables: Tables) -> None:
    tables.task(1)
    tables.task(2)
    add_order(tables, 3, 1, {1: 0.5, 2: 0.75})
    with tables.store.write() as session:
        session.get_one(Project, 1).champion = 3
        for task_id, order in ((1, 1), (2, 0)):
            row = session.get_one(Task, (1, task_id))
            row.pushed_version, row.pushed_order, row.pushed_score = 3, order, 0.375
    with tables.store.look() as rows:
        assert read_project(rows, 1)[0] == 3
        assert read_project(rows, 9) == (0, "")
        order = NewestOrders().get(rows, 1, 3)
        assert order is not None
        assert read_pushed(rows, 1, order, [1, 2, 7]) == {1: 0.375}
