"""The data folder: what is said when this user cannot use it."""

from __future__ import annotations

from pathlib import Path

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
