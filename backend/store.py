"""The database: one engine per process, short transactions, migrations.

SQLite runs in WAL mode, so that readers never wait for a writer. A writing transaction takes the
write lock when it begins: two processes that read and then write wait for each other instead of
failing half-way. What :meth:`Store.write` commits survives a killed process; on SQLite a power cut
may take the last commits back, never half of one.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from backend.database_errors import storage_error
from model.files import writing

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 7_421_905
SQLITE_BUSY_SECONDS = 30.0


class Store:
    """The database at a SQLAlchemy address.

    Args:
        address: for example ``sqlite:////srv/tiebreak.db`` or ``postgresql+psycopg://…``.
    """

    def __init__(self, address: str) -> None:
        self.engine = _engine(address)
        self._snapshots = _snapshots(self.engine)
        self._session = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing is committed."""
        with self._told(), self._session() as session:
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A connection for reading rows without their classes, all of one state of the tables."""
        with self._told(), self._snapshots.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back by an exception.

        Raises:
            StorageError: the disk does not take it; what was there is as it was.
        """
        with self._told(), self._session() as session:
            session.connection(execution_options={"tiebreak_write": True})
            yield session
            session.commit()

    def migrate(self) -> None:
        """Bring the tables to the newest form; safe when several processes start at once."""
        with self._told():
            if self._is_newest():
                return
        # Alembic takes a while to load, and is needed once for each new form.
        from alembic import command
        from alembic.config import Config

        with self._told(), self._migration_lock(), self.engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _is_newest(self) -> bool:
        """Whether the tables have the newest form already."""
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            found = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
        return list(found) == [newest_revision()]

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
        elif self.engine.dialect.name == "postgresql":
            with self.engine.connect() as connection:
                connection.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
                try:
                    yield
                finally:
                    connection.execute(text(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})"))
        else:
            yield


def newest_revision() -> str:
    """The last of the migrations, whose files are named by their number."""
    return max(path.name[1:5] for path in (MIGRATIONS / "versions").glob("v[0-9]*.py"))


def _engine(address: str) -> Engine:
    url = make_url(address)
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
