"""The databases that tests run on: a SQLite file, or a database in a real PostgreSQL.

``both_databases`` marks the tests that run on both; ``pytest --postgres`` runs every test of this
folder that takes ``settings`` or ``store`` on PostgreSQL alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import create_engine, text

from backend.store import Store
from tests.postgres import PostgresMissing, PostgresServer

SQLITE, POSTGRES = "sqlite", "postgresql"
both_databases = pytest.mark.parametrize("database", [SQLITE, POSTGRES], indirect=True)
on_sqlite = pytest.mark.parametrize("database", [SQLITE], indirect=True)
on_postgres = pytest.mark.parametrize("database", [POSTGRES], indirect=True)

NewDatabase = Callable[[], str]


@pytest.fixture(scope="session")
def new_database() -> Iterator[NewDatabase]:
    """Makes databases with all tables in a cluster of the session, and gives their addresses."""
    try:
        server = PostgresServer(careless=True)
    except PostgresMissing as error:
        pytest.skip(str(error))
    numbers = itertools.count()
    try:
        server.start()
        first = Store(server.url("postgres"))
        with first.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CREATE DATABASE template_of_tests"))
        first.close()
        template = Store(server.url("template_of_tests"))
        template.migrate()
        template.close()
        engine = create_engine(
            server.url().replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )

        def make() -> str:
            name = f"test{next(numbers)}"
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_of_tests"))
            return server.url(name)

        yield make
        engine.dispose()
    finally:
        server.close()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str | None:
    """Address of the test's database; None: SQLite in the data folder."""
    default = POSTGRES if request.config.getoption("--postgres") else SQLITE
    if getattr(request, "param", default) == SQLITE:
        return None
    address: str = request.getfixturevalue("new_database")()
    return address
