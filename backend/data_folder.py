"""The data folder: whether a database is in it, and what is said when there is none or when this
user cannot use it."""

from __future__ import annotations

from pathlib import Path

from backend.errors import SetupError
from backend.settings import Settings
from model.errors import StorageError


def unusable(path: Path, error: OSError) -> StorageError:
    """The error about a file of the data folder that can be neither read nor made."""
    whole = path.resolve()
    reason = error.strerror or type(error).__name__
    return StorageError(
        f"{whole} cannot be used ({reason}).",
        mend=f"Run this as the user that owns {whole.parent}, or set TIEBREAK_DATA_DIR to a folder "
        "that this user may write to.",
    )


def has_database(settings: Settings) -> bool:
    """Whether these settings name one that is there; one on a server may still not answer.

    Raises :class:`StorageError` where this user cannot look.
    """
    if settings.database_url is not None:
        return True
    path = settings.data_dir / "tiebreak.db"
    try:
        return path.exists()
    except OSError as error:
        raise unusable(path, error) from error


def require_database(settings: Settings) -> None:
    """:class:`SetupError` where there is none yet. A command that looks would make an empty one
    wherever somebody happens to be."""
    if not has_database(settings):
        raise SetupError(
            f"There is no database in the data folder {settings.data_dir.resolve()} yet.",
            mend="Start `tiebreak serve` and `tiebreak trainer`; or, where they run already, run "
            "this in the same folder as them, or set TIEBREAK_DATA_DIR to their data folder.",
        )
