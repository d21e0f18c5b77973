"""The one clock that everything is dated by."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from backend import clock
from backend.hints import add_hint, close_request
from backend.store import Store
from backend.tables import Hint, Project
from tests.backend.databases import on_postgres


@pytest.fixture(autouse=True)
def own_clock() -> Iterator[None]:
    clock.follow_this_machine()
    yield
    clock.follow_this_machine()


def test_the_databases_clock_is_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock.now() == pytest.approx(time.time(), abs=5)
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    # Asked at 98, answered at 100: what it said was so at 99.
    clock.follow(5000.0, 98.0, 100.0)
    assert clock.now() == 5001.0
    moment[0] = 160.0
    assert clock.now() == 5061.0
    # Somebody sets this machine's clock, and nothing changes.
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.now() == 5061.0


@on_postgres
def test_a_request_of_a_machine_a_minute_ahead_is_answered_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60)
    assert add_hint(store, 1, "START_TRAINING", None, train=True)
    monkeypatch.setattr(time, "time", real)
    with store.write() as session:
        session.query(Hint).delete()
        # A training that begins now has seen it.
        assert close_request(session, session.get_one(Project, 1), clock.now())
