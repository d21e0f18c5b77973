from __future__ import annotations

import subprocess
import sys
import time

import pytest

from backend.errors import LeaseLost
from backend.lease import Leases, owner_name
from backend.projects import trainer_alive
from backend.store import Store
from backend.tables import Lease, Project
from tests.backend.databases import both_databases

pytestmark = both_databases


@pytest.fixture(autouse=True)
def project(store: Store) -> None:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))


def _silent_for(store: Store, seconds: float) -> None:
    with store.write() as session:
        session.get_one(Lease, 1).heartbeat_at -= seconds


def test_one_owner_at_a_time(store: Store) -> None:
    first, second = Leases(store, "a", 30), Leases(store, "b", 30)
    assert first.acquire(1)
    assert first.acquire(1)
    assert not second.acquire(1)
    first.release(1)
    assert second.acquire(1)


def test_a_silent_trainer_loses_its_project_and_cannot_promote(store: Store) -> None:
    first, second = Leases(store, "a", 30), Leases(store, "b", 30)
    assert first.acquire(1)
    _silent_for(store, 29)
    assert not second.acquire(1)
    _silent_for(store, 2)
    assert second.acquire(1)
    with pytest.raises(LeaseLost), store.write() as session:
        first.check(session, 1)
    with store.write() as session:
        second.check(session, 1)


def test_a_heartbeat_keeps_the_project(store: Store) -> None:
    first, second = Leases(store, "a", 30), Leases(store, "b", 30)
    assert first.acquire(1)
    _silent_for(store, 31)
    first.beat()
    assert not second.acquire(1)


def test_giving_back_frees_everything(store: Store) -> None:
    first = Leases(store, "a", 30)
    first.beat()
    assert first.acquire(1)
    first.give_back()
    assert Leases(store, "b", 30).acquire(1)


def test_another_owner_cannot_release_it(store: Store) -> None:
    first, second = Leases(store, "a", 30), Leases(store, "b", 30)
    assert first.acquire(1)
    second.release(1)
    assert not second.acquire(1)


def test_a_project_of_a_process_that_has_ended_is_free_at_once(store: Store) -> None:
    command = "from backend.lease import owner_name; print(owner_name())"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert Leases(store, done.stdout.strip(), 30).acquire(1)
    living = Leases(store, owner_name(), 30)
    assert living.acquire(1)
    assert not Leases(store, owner_name(), 30).acquire(1)


def test_clocks_that_disagree_agree_about_a_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch, database: str | None
) -> None:
    if database is None:
        pytest.skip("on SQLite there is one machine")
    first, second = Leases(store, "a", 30), Leases(store, "b", 30)
    real = time.time
    for ahead in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda ahead=ahead: real() + ahead)
        assert first.acquire(1)
        first.beat()
        assert first.works("a")
        monkeypatch.setattr(time, "time", real)
        assert not second.acquire(1)
        assert second.works("a")
        with store.read() as session:
            assert trainer_alive(session, 30)
            assert session.get_one(Lease, 1).heartbeat_at == pytest.approx(real(), abs=5)


def test_a_lease_whose_row_is_held_is_not_waited_for(store: Store, database: str | None) -> None:
    if database is None:
        pytest.skip("on SQLite whoever writes is alone")
    first, second = Leases(store, "a", 30), Leases(store, "b", 30)
    assert first.acquire(1)
    _silent_for(store, 3600)
    with store.write() as session:
        first.check(session, 1)  # in the middle of writing something down: it is at work
        began = time.monotonic()
        assert not second.acquire(1)
        assert time.monotonic() - began < 10
        first.ensure(1)
    assert second.acquire(1)
    with pytest.raises(LeaseLost):
        first.ensure(1)
