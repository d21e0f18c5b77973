"""What is particular to PostgreSQL: connections that outlive no cut network, locks, a clock.

A machine that loses its network in the middle of a transaction would keep its locks for hours, and
with them every other machine waiting. So both ends look after each other: within about
``PEER_SECONDS`` the server ends the session of a machine that answers no more, and a machine gives
up a server that answers no more. A transaction that writes and then does nothing for
``IDLE_SECONDS`` is ended, too. Everything that is ended so is rolled back and done again.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

from backend import clock

SCHEMES = ("postgres", "postgresql", "postgresql+psycopg")
MIGRATION_LOCK = 7_421_905
WRITE_LOCK = 7_421_906
CONNECT_SECONDS = 10
PEER_SECONDS = 20
IDLE_SECONDS = 60
LOCK_SECONDS = 30
RECYCLE_SECONDS = 1800.0

READING = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""Options of a connection that reads."""

_BOTH_ENDS = {
    "keepalives_idle": PEER_SECONDS // 2,
    "keepalives_interval": PEER_SECONDS // 4,
    "keepalives_count": 2,
}
_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())")
_LIMITS = (
    f"set_config('idle_in_transaction_session_timeout', '{IDLE_SECONDS}s', true), "
    f"set_config('lock_timeout', '{LOCK_SECONDS}s', true)"
)
_BEGIN = text(f"SELECT {_LIMITS}")
_BEGIN_ALONE = text(f"SELECT {_LIMITS}, pg_advisory_xact_lock({WRITE_LOCK})")


def engine_of(url: URL) -> Engine:
    """An engine with the driver psycopg 3. What the address itself asks for goes first."""
    wanted: dict[str, Any] = {
        "application_name": "tiebreak",
        "connect_timeout": CONNECT_SECONDS,
        "keepalives": 1,
        "tcp_user_timeout": 1000 * PEER_SECONDS,
        **_BOTH_ENDS,
    }
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_recycle=RECYCLE_SECONDS,
        connect_args={name: value for name, value in wanted.items() if name not in url.query},
    )
    event.listen(engine, "connect", _prepare)
    return engine


def begin_writing(connection: Connection, *, alone: bool) -> None:
    """Begin a transaction that writes; ``alone``: when no other one that is alone runs."""
    connection.execute(_BEGIN_ALONE if alone else _BEGIN)


def read_clock(connection: Connection) -> float:
    """The server's clock at this moment, in seconds since the epoch; this process goes by it."""
    asked = time.monotonic()
    found = float(connection.execute(_CLOCK).scalar_one())
    clock.follow(found, asked, time.monotonic())
    return found


def _prepare(connection: Any, _record: object) -> None:
    """Have the server look after this end, and read its clock."""
    wanted = {f"tcp_{name}": value for name, value in _BOTH_ENDS.items()}
    wanted["tcp_user_timeout"] = 1000 * PEER_SECONDS
    sets = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in wanted.items())
    before, connection.autocommit = connection.autocommit, True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {sets}")
            asked = time.monotonic()
            found = cursor.execute(str(_CLOCK)).fetchone()
            clock.follow(float(found[0]), asked, time.monotonic())
    finally:
        connection.autocommit = before
