"""Which projects a trainer turns to, and what it leaves behind."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from backend.errors import SetupError
from backend.hints import add_hint
from backend.settings import Settings
from backend.store import Store
from backend.tables import Lease, Project, TrainerProcess
from backend.trainer import Trainer, _told
from backend.troubles import mark
from backend.watch import Hang
from model.files import storage_error


@pytest.fixture
def trainer(settings: Settings, store: Store) -> Iterator[Trainer]:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))
    made = Trainer(settings)
    yield made
    made.tools.fetcher.close()
    made.tools.client.close()
    made.tools.store.close()


def test_a_hint_that_a_turn_left_waiting_is_no_reason_for_another(
    trainer: Trainer, store: Store
) -> None:
    add_hint(store, 1, "ANNOTATION_CREATED", [7], train=False)
    assert trainer._due() == [1]
    trainer._wake[1] = time.time() + 60
    assert trainer._due() == []
    add_hint(store, 1, "ANNOTATION_CREATED", [7], train=False)
    assert trainer._due() == [1]
    assert trainer._due() == []
    trainer._wake[1] = time.time() - 1
    assert trainer._due() == [1]


def test_a_hint_may_mend_what_is_parked(trainer: Trainer, store: Store) -> None:
    with store.read() as session:
        before = mark(session, 1)
        assert mark(session, 1) == before
    add_hint(store, 1, "ANNOTATION_CREATED", [7], train=False)
    with store.read() as session:
        assert mark(session, 1) != before


def test_leases_are_given_back_even_where_the_hang_cannot_be_noted(
    trainer: Trainer, store: Store
) -> None:
    leases = trainer.tools.leases
    assert leases.acquire(1)
    leases.beat()
    with pytest.raises(IntegrityError):
        trainer._leave(Hang("It hangs.", 9.0, 99, "train"))
    trainer._beat()
    with store.read() as session:
        assert session.scalars(select(Lease)).all() == []
        assert session.scalars(select(TrainerProcess)).all() == []


def test_only_what_the_loop_tries_again_is_said_to_be() -> None:
    full = storage_error("Version 2", Path("/srv"), OSError(errno.EACCES, "Permission denied"))
    assert _told(full) == f"{full} It is tried again by itself."
    assert "by itself" not in str(full)
    assert _told(SetupError("Nothing.", mend="Look.")) == "Nothing. Look."
