from __future__ import annotations

import subprocess
import sys

import pytest

from backend.errors import LeaseLost
from backend.lease import Leases, owner_name
from backend.store import Store
from backend.tables import Lease, Project


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
