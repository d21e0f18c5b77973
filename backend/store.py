"""The database: one engine per process, short transactions, migrations.

What both databases promise: readers never wait for a writer, and see one moment of the whole. A
writing transaction takes the write lock when it begins: two processes that read and then write wait
for each other instead of failing half-way. SQLite does so in WAL mode; on PostgreSQL reading is
REPEATABLE READ, and the write lock an advisory one of the whole database. What :meth:`Store.write`
commits survives a killed process; on SQLite a power cut may take the last commits back, never half
of one.

A machine that is cut off in the middle of a transaction must not hold its locks for long: see
:mod:`backend.postgres`.
"""

from __future__ import annotations

import fcntl
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from backend import postgres
from backend.database_errors import storage_error
from backend.tables import Base
from model.files import writing

MIGRATIONS = Path(__file__).parent / "migrations"
SQLITE_BUSY_SECONDS = 30.0


class Store:
    """The database at a SQLAlchemy address.

    Args:
        address: for example ``sqlite:////srv/tiebreak.db`` or ``postgresql://…``.
    """

    def __init__(self, address: str) -> None:
        self.engine = _engine(address)
        # A command that ends without closing it says farewell to the server none the less.
        weakref.finalize(self, self.engine.dispose)
        self._on_postgres = self.engine.dialect.name == "postgresql"
        self._snapshots = _snapshots(self.engine)
        self._session = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading, all at one moment; nothing is committed."""
        with self._told(), self._session() as session:
            if self._on_postgres:
                session.connection(execution_options=postgres.READING)
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A connection for reading rows without their classes, all of one state of the tables."""
        with self._told(), self._snapshots.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, alone: bool = True) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back by an exception.

        ``alone``: no other such transaction runs meanwhile, so what was read is still so when it is
        written. Without it a short transaction, which depends on nothing that it has not locked,
        need not wait for a long one; on SQLite every one waits.

        Raises:
            StorageError: the disk does not take it; what was there is as it was.
        """
        with self._told(), self._session() as session:
            connection = session.connection(execution_options={"tiebreak_write": True})
            if self._on_postgres:
                postgres.begin_writing(connection, alone=alone)
            yield session
            session.commit()

    def now(self, session: Session) -> float:
        """What the database's clock says at this moment of a transaction, in seconds since the
        epoch: after a lock was waited for, too."""
        if self._on_postgres:
            return postgres.read_clock(session.connection())
        return time.time()

    def migrate(self) -> None:
        """Bring the tables to the newest form; safe when several processes start at once."""
        with self._told():
            if self.revision() == newest_revision():
                return
        # Alembic takes a while to load, and is needed once for each new form.
        from alembic import command
        from alembic.config import Config

        with self._told(), self._migration_lock(), self.engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def revision(self) -> str:
        """The last migration of the tables; empty where there are none."""
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return ""
            found = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
        return max(found, default="")

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say of a full, read-only or failing disk what it is."""
        try:
            yield
        except DBAPIError as error:
            if told := storage_error(error, self.engine.url):
                raise told from error
            raise

    @contextmanager
    def _migration_lock(self) -> Iterator[None]:
        database = self.engine.url.database
        if self.engine.dialect.name == "sqlite" and database:
            lock = Path(f"{database}.lock")
            with writing("The database's lock", lock):
                handle = lock.open("w")
            with handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
        elif self._on_postgres:
            with self.engine.connect() as connection:
                connection.execute(text(f"SELECT pg_advisory_lock({postgres.MIGRATION_LOCK})"))
                try:
                    yield
                finally:
                    connection.execute(
                        text(f"SELECT pg_advisory_unlock({postgres.MIGRATION_LOCK})")
                    )
        else:
            yield


def insert_new(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows whose key is not there yet, whoever else inserts it now.

    Two processes that insert the same rows must do so in the same order.
    """
    kind = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    if rows:
        session.connection().execute(kind.insert(table).on_conflict_do_nothing(), rows)


def newest_revision() -> str:
    """The last of the migrations, whose files are named by their number."""
    return max(path.name[1:5] for path in (MIGRATIONS / "versions").glob("v[0-9]*.py"))


def _engine(address: str) -> Engine:
    url = make_url(address)
    if url.drivername in postgres.SCHEMES:
        return postgres.engine_of(url)
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if url.database:
        with writing("The database", Path(url.database)):
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _snapshots(engine: Engine) -> Engine:
    """Where every transaction sees one state: on SQLite each does; PostgreSQL's must ask for it."""
    if engine.dialect.name != "postgresql":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes too late and is always deferred; we send ours instead.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("tiebreak_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
