"""The errors of Tiebreak, one tree.

::

    TiebreakError
    ├── ArgumentError        an argument is outside what a function allows
    ├── WeightsError         pretrained weights cannot be had
    ├── ArtifactError        a model version on disk is missing, cut or changed
    ├── PackageError         a package that not everybody installs is needed
    ├── StorageError         the disk or the database does not take what is to be written
    └── (backend.errors)     everything that talks adds its own below the same root
"""

from __future__ import annotations


class TiebreakError(Exception):
    """Root of every error that Tiebreak raises on purpose.

    ``mend`` says, in one sentence, what the reader can do about it; it may be empty.
    """

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message} {self.mend}".strip()


class ArgumentError(TiebreakError, ValueError):
    """An argument is outside what the function allows; the message names it and its value."""


class WeightsError(TiebreakError):
    """Pretrained weights could not be found, fetched or verified."""


class ArtifactError(TiebreakError):
    """A model version on disk is missing, truncated or not what its checksums say."""


class PackageError(TiebreakError):
    """What is asked for needs a package that is not installed; ``mend`` says how to get it."""


class StorageError(TiebreakError):
    """The disk or the database does not take what is to be written, or cannot be read.

    Nothing is wrong with the work itself: the same goes well once there is space again.
    """
