from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from backend.store import MIGRATIONS, Store, newest_revision
from backend.tables import Base, Hint, Label, Project


def _migrate(address: str) -> None:
    store = Store(address)
    store.migrate()
    store.close()


def _add_hints(address: str, count: int) -> None:
    store = Store(address)
    for _ in range(count):
        with store.write() as session:
            project = session.get_one(Project, 1)
            project.failures += 1
            session.add(Hint(project_id=1, action="X", created_at=0.0))
    store.close()


def test_migrations_make_exactly_the_tables(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_newest_form_is_known_without_the_migrations(store: Store) -> None:
    folder = ScriptDirectory(str(MIGRATIONS))
    assert newest_revision() == folder.get_current_head()
    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0007'"))
        session.execute(text("DROP TABLE troubles"))
    store.migrate()
    with store.look() as rows:
        assert rows.scalar(text("SELECT version_num FROM alembic_version")) == newest_revision()
        assert rows.scalar(text("SELECT count(*) FROM troubles")) == 0


def test_a_look_sees_one_state_of_the_tables(store: Store) -> None:
    with store.look() as rows:
        assert rows.scalar(text("SELECT count(*) FROM projects")) == 0
        with store.write() as session:
            session.add(Project(id=1, connected_at=0.0))
        assert rows.scalar(text("SELECT count(*) FROM projects")) == 0
    with store.look() as rows:
        assert rows.scalar(text("SELECT count(*) FROM projects")) == 1


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/t.db"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_migrate, args=(address,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4


def test_two_processes_that_read_then_write_lose_nothing(store: Store, tmp_path: Path) -> None:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))
    address = str(store.engine.url)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_add_hints, args=(address, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with store.read() as session:
        assert session.get_one(Project, 1).failures == 150
        assert len(session.scalars(select(Hint)).all()) == 150


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as session:
            session.add(Project(id=1, connected_at=0.0))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as session:
        assert session.get(Project, 1) is None


def test_a_label_without_its_project_is_refused(store: Store) -> None:
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(Label(project_id=5, task_id=1, control="c", status="agreed", choices=[]))
