from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from backend import postgres
from backend.hints import add_hint
from backend.store import MIGRATIONS, Store, insert_new, newest_revision
from backend.tables import Base, Embedding, Hint, Label, Project
from model.errors import StorageError
from tests.backend.databases import both_databases, on_postgres


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


@both_databases
def test_migrations_make_exactly_the_tables(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_newest_form_is_known_without_the_migrations(tmp_path: Path) -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    head = scripts.get_current_head()
    assert newest_revision() == head
    store = Store(f"sqlite:///{tmp_path}/old.db")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, f"{head}-1")
    store.migrate()
    with store.look() as rows:
        assert rows.scalar(text("SELECT version_num FROM alembic_version")) == newest_revision()
        differences = compare_metadata(
            MigrationContext.configure(rows, opts={"compare_server_default": False}), Base.metadata
        )
        assert differences == []


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


@both_databases
def test_two_processes_that_read_then_write_lose_nothing(store: Store) -> None:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))
    address = store.engine.url.render_as_string(hide_password=False)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_add_hints, args=(address, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with store.read() as session:
        assert session.get_one(Project, 1).failures == 150
        assert len(session.scalars(select(Hint)).all()) == 150


@both_databases
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


@both_databases
def test_a_label_without_its_project_is_refused(store: Store) -> None:
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(Label(project_id=5, task_id=1, control="c", status="agreed", choices=[]))


@on_postgres
def test_a_reader_sees_one_moment(store: Store) -> None:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))
    with store.read() as reading:
        assert reading.get_one(Project, 1).failures == 0
        with store.write() as session:
            session.get_one(Project, 1).failures = 7
        reading.expire_all()
        assert reading.get_one(Project, 1).failures == 0


@on_postgres
def test_a_short_transaction_waits_for_no_long_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sooner = str(postgres._BEGIN_ALONE).replace("30s", "500ms")
    monkeypatch.setattr(postgres, "_BEGIN_ALONE", text(sooner))
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))
    with store.write() as long:
        long.get_one(Project, 1).title = "long"
        long.flush()
        assert add_hint(store, 1, "ANNOTATION_CREATED", [7], train=False)
        rows = [{"digest": "d", "backbone": "b", "vector": b"1"}]
        with store.write(alone=False) as session:
            insert_new(session, Embedding, rows)
        # Whoever wants to be alone has to wait, and says so in time.
        with pytest.raises(StorageError, match="held by another process"), store.write() as session:
            session.add(Hint(project_id=1, action="X", created_at=0.0))
    with store.read() as session:
        assert len(session.scalars(select(Hint)).all()) == 1


@both_databases
def test_what_is_there_is_not_inserted_again(store: Store) -> None:
    for vector in (b"first", b"second"):
        with store.write(alone=False) as session:
            rows = [{"digest": each, "backbone": "b", "vector": vector} for each in "ab"]
            insert_new(session, Embedding, rows)
            insert_new(session, Embedding, [])
    with store.read() as session:
        assert set(session.scalars(select(Embedding.vector))) == {b"first"}


@on_postgres
def test_a_connection_that_the_server_ended_is_not_noticed(store: Store) -> None:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))

    other = Store(store.engine.url.render_as_string(hide_password=False))

    def end_all_others() -> None:
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        with other.read() as session:
            session.execute(text(query))

    def write() -> None:
        with store.write() as session:
            session.get_one(Project, 1).title = "half"
            session.flush()
            end_all_others()

    end_all_others()  # the one that is kept for the next transaction
    with pytest.raises(StorageError, match="does not answer"):
        write()  # what is under way is rolled back whole
    with store.read() as session:
        assert session.get_one(Project, 1).title == ""
    other.close()


@on_postgres
def test_both_ends_of_a_connection_look_after_each_other(store: Store) -> None:
    with store.write() as session:
        found = {
            name: session.scalar(text(f"SHOW {name}"))
            for name in (
                "tcp_keepalives_idle",
                "tcp_keepalives_interval",
                "tcp_keepalives_count",
                "tcp_user_timeout",
                "idle_in_transaction_session_timeout",
                "lock_timeout",
            )
        }
    assert list(found.values()) == ["10", "5", "2", "20000", "1min", "30s"]
    with store.read() as session:  # a reader may compute for as long as it likes
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "0"


@on_postgres
def test_a_wrong_password_is_said_and_not_shown(store: Store) -> None:
    wrong = store.engine.url.set(password="planted-wrong", drivername="postgresql")
    other = Store(wrong.render_as_string(hide_password=False))
    with pytest.raises(StorageError) as caught, other.read() as session:
        session.scalar(text("SELECT 1"))
    assert "password authentication failed" in str(caught.value)
    assert "planted-wrong" not in str(caught.value)
