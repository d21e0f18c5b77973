"""Which errors of a database are named as its own, so that work waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from backend.database_errors import storage_error

SERVER = make_url("postgresql+psycopg://tiebreak@db.example.org/tiebreak")


class Refused(Exception):
    """What a driver raises; ``sqlstate`` is None where no server answered."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("refused")
        self.sqlstate = sqlstate


def raised(kind: Any, sqlstate: str | None) -> DBAPIError:
    error: DBAPIError = kind("SELECT 1", {}, Refused(sqlstate))
    return error


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
@pytest.mark.parametrize("sqlstate", [None, "08006", "53300", "57P01", "57P03"])
def test_a_server_that_is_away_is_waited_for(kind: Any, sqlstate: str | None) -> None:
    found = storage_error(raised(kind, sqlstate), SERVER)
    assert found is not None
    assert found.message == "The database at db.example.org:5432 does not answer (refused)."


def test_a_server_without_space_or_without_leave_to_write_is_named() -> None:
    full = storage_error(raised(OperationalError, "53100"), SERVER)
    assert full is not None
    assert "has no space left" in full.message
    locked = storage_error(raised(DBAPIError, "25006"), SERVER)
    assert locked is not None
    assert "cannot be written" in locked.message


@pytest.mark.parametrize("kind", [IntegrityError, OperationalError])
def test_what_is_wrong_with_the_work_is_passed_on(kind: Any) -> None:
    assert storage_error(raised(kind, "23505"), SERVER) is None
