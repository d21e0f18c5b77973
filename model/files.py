"""Files and folders that survive a crash, and what is said when they cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

from model.errors import StorageError

ABANDONED_SECONDS = 3600.0
"""What was not written to for so long belongs to a process that was killed."""
_OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENODEV, errno.ESTALE}
)
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_MENDS = {
    errno.ENOSPC: "Free some space there",
    errno.EDQUOT: "Free some space there, or raise the quota",
    errno.EROFS: "Mount it writable again",
    errno.EACCES: "Give this user the right to write there",
    errno.EPERM: "Give this user the right to write there",
}


def write_whole(path: Path, data: bytes) -> None:
    """Make ``path`` a file with ``data``, whole or not at all; a file that is there is replaced.

    What survives a crash: the old file or the new one; a process killed in between leaves at most
    a hidden ``.partial`` file beside it. OSError when it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        write_through(partial, data)
        os.replace(partial, path)
        sync_folder(path.parent)
    finally:
        remove_quietly(partial)


def write_through(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in ``folder``."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_quietly(path: Path) -> None:
    """Remove a file or a folder that is of no use, if it is there and the disk lets it go."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass  # what was being written has failed already, and says more


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove those that nobody has written to for :data:`ABANDONED_SECONDS`."""
    for path in paths:
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            continue  # another process was first
        if age > ABANDONED_SECONDS:
            remove_quietly(path)


@contextmanager
def writing(what: str, path: Path, needed: int = 0) -> Iterator[None]:
    """Turn an OSError within the block into a :class:`StorageError` about ``path``.

    ``what``    what is being written, as the beginning of a sentence
    ``needed``  bytes that it takes, where that is known
    """
    try:
        yield
    except OSError as error:
        raise storage_error(what, path, error, needed) from error


def storage_error(what: str, path: Path, error: OSError, needed: int = 0) -> StorageError:
    """The error that names the path, and where space is the matter how much is needed and free."""
    if blocking := _file_in_the_way(path, error):
        return StorageError(
            f"{what} cannot be written to {path} ({blocking} is a file).",
            mend="A folder is wanted there: name another one, or move that file away.",
        )
    reason = error.strerror or str(error) or type(error).__name__
    space = ""
    if needed or error.errno in _NO_SPACE:
        wanted = f"{needed:,} bytes are needed and " if needed else ""
        free = free_bytes(path)
        space = f"; {wanted}{'?' if free is None else f'{free:,}'} are free there"
    mend = _MENDS.get(error.errno or 0, "Check the disk, and the permissions of that folder")
    return StorageError(f"{what} cannot be written to {path} ({reason}{space}).", mend=f"{mend}.")


def _file_in_the_way(path: Path, error: OSError) -> Path | None:
    """The file that stands where a folder for ``path`` is wanted, if that is what is wrong."""
    if error.errno not in (errno.EEXIST, errno.ENOTDIR):
        return None
    return next((place for place in path.absolute().parents if place.is_file()), None)


def is_of_the_disk(error: BaseException) -> TypeGuard[OSError]:
    """Whether an error says that the disk is full, read-only or failing."""
    return isinstance(error, OSError) and error.errno in _OF_THE_DISK


def free_bytes(path: Path) -> int | None:
    """Bytes free to this user where ``path`` is or would be; None when that cannot be told."""
    for place in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None
