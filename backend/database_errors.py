"""What the database says when the disk is full, read-only or failing, in words that help."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from model.errors import StorageError
from model.files import free_bytes

_FULL, _READONLY, _BUSY, _IOERR, _CANTOPEN = 13, 8, 5, 10, 14
_SQLITE = {
    _FULL: ("has no space left", "Free some space there."),
    _READONLY: ("cannot be written", "Make it writable again."),
    _IOERR: ("cannot be read or written", "Check the disk that it is on, and its free space."),
    _CANTOPEN: ("cannot be opened", "Check that its folder is there and may be written to."),
    _BUSY: ("is held by another process", "Wait until that one lets go of it."),
}
_PRIMARY_CODE = 0xFF
_PG_DISK_FULL, _PG_READ_ONLY, _PG_LOCKED = "53100", "25006", "55P03"
# Connections that are broken, too many, or ended because it stops; a refused one has no state.
_PG_AWAY = ("08", "53", "57P")


def storage_error(error: DBAPIError, url: URL) -> StorageError | None:
    """The error that names the database and what to do; None where the work itself is wrong."""
    if url.get_backend_name() == "sqlite":
        return _of_sqlite(error, Path(url.database or "."))
    return _of_a_server(error, url)


def _of_sqlite(error: DBAPIError, path: Path) -> StorageError | None:
    code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code not in _SQLITE:
        return None
    what, mend = _SQLITE[code]
    free = free_bytes(path)
    space = "" if free is None or code == _BUSY else f"; {free:,} bytes are free there"
    return StorageError(f"The database {path} {what} ({error.orig}{space}).", mend=mend)


def _of_a_server(error: DBAPIError, url: URL) -> StorageError | None:
    state = getattr(error.orig, "sqlstate", None)
    where = f"The database at {url.host}:{url.port or 5432}"
    if state in (_PG_DISK_FULL, _PG_READ_ONLY):
        what = "has no space left" if state == _PG_DISK_FULL else "cannot be written"
        return StorageError(f"{where} {what} ({error.orig}).", mend="Mend it there.")
    if state == _PG_LOCKED:
        what, mend = _SQLITE[_BUSY]
        return StorageError(f"{where} {what}.", mend=mend)
    away = state is None or str(state).startswith(_PG_AWAY)
    if away and isinstance(error, OperationalError | InterfaceError):
        return StorageError(
            f"{where} does not answer ({_first_line(error)}).",
            mend="Check that it runs, and DATABASE_URL.",
        )
    return None


def _first_line(error: DBAPIError) -> str:
    """What the driver says, which never names a password."""
    said = str(error.orig).strip().splitlines()
    return said[0] if said else type(error.orig).__name__
