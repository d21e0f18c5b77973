"""Versions in a bucket that several machines share, and the copy that each machine reads.

A version is two objects below ``artifacts/project-N/vM-<first 16 digits>/``, where the digits are
those of the SHA-256 of its description, which holds the SHA-256 of the rest. The whole digest
stands in the version's row, so the commit of the row is what makes a version appear, whole or not
at all: objects that no row names are nobody's, and a trainer that was cut off cannot change what a
row names. The copy in the data folder is fetched when a version first serves there.

Processes of one machine may fetch a version at once: each does so into a folder of its own beside
the place, and one after the other looks whether the place needs it. So a version is there whole or
not at all, and nobody waits for another's requests. What a killed process leaves beside the place
is removed by a later fetch.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from backend import clock
from backend.shared_files import SharedFiles, cached_file
from backend.store import Store
from backend.tables import Version
from model.artifact import DESCRIPTION_FILE, TENSORS_FILE, load_artifact
from model.errors import ArtifactError, StorageError
from model.files import remove_abandoned, remove_quietly, sync_folder, writing

log = logging.getLogger(__name__)

FILES = (TENSORS_FILE, DESCRIPTION_FILE)
ABANDONED_SECONDS = 86_400.0
"""Objects that no row names by then belong to no training that is under way."""


def share_version(shared: SharedFiles, project_id: int, number: int, folder: Path) -> str:
    """Send a version's files to the bucket, and give the digest that its row is to name."""
    digest = _digest(folder)
    for name in FILES:
        shared.put(f"{_prefix(project_id, number, digest)}{name}", (folder / name).read_bytes())
    return digest


def fetch_version(
    shared: SharedFiles, folder: Path, project_id: int, number: int, files: str
) -> None:
    """Make ``folder`` the copy of the version whose row has this digest; one that is whole costs no
    request.

    Raises:
        ArtifactError: it is missing or damaged in the bucket.
        StorageError: the bucket cannot be had.
    """
    if _is_whole(folder, files):
        return
    remove_abandoned(folder.parent.glob(".*.fetched"))
    fetched = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.fetched")
    try:
        for name in FILES:
            cached_file(shared, f"{_prefix(project_id, number, files)}{name}", fetched / name)
        if not _is_whole(fetched, files):
            raise ArtifactError(
                f"{shared.root}/{_prefix(project_id, number, files)} is missing or damaged.",
                mend="Restore it from a copy, or go back to an earlier version.",
            )
        with writing("What is read from the bucket", folder), _one_at_a_time(folder.parent):
            if not _is_whole(folder, files):
                _replace(folder, fetched)
    finally:
        remove_quietly(fetched)


def withdraw_version(shared: SharedFiles, project_id: int, number: int, digest: str) -> None:
    """Remove the objects of a version that came to nothing, if the bucket can be had."""
    try:
        shared.remove([f"{_prefix(project_id, number, digest)}{name}" for name in FILES])
    except StorageError as error:
        log.warning("what a training left stays until versions are pruned: %s", error)


def forget_versions(shared: SharedFiles, store: Store, project_id: int) -> None:
    """Remove the objects of a project that no version with files names."""
    query = select(Version).where(Version.project_id == project_id, Version.files != "")
    with store.read() as session:
        rows = session.scalars(query).all()
    kept, pruned = (
        tuple(_prefix(project_id, row.number, row.files) for row in rows if row.pruned == gone)
        for gone in (False, True)
    )
    before = clock.now() - ABANDONED_SECONDS
    found = shared.under(f"artifacts/project-{project_id}/")
    shared.remove(
        [
            key
            for key, each in found.items()
            if not key.startswith(kept) and (key.startswith(pruned) or each.modified < before)
        ]
    )


@contextmanager
def _one_at_a_time(parent: Path) -> Iterator[None]:
    """Between looking at a place and replacing what is there, no other process may do so."""
    with (parent / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _replace(folder: Path, fetched: Path) -> None:
    """Put a version in the place of one that is damaged or another one."""
    damaged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.fetched")
    if folder.exists():
        os.rename(folder, damaged)
    os.rename(fetched, folder)
    sync_folder(folder.parent)
    remove_quietly(damaged)


def _prefix(project_id: int, number: int, digest: str) -> str:
    return f"artifacts/project-{project_id}/v{number}-{digest[:16]}/"


def _digest(folder: Path) -> str:
    """SHA-256 of the description; empty where there is none."""
    try:
        return hashlib.sha256((folder / DESCRIPTION_FILE).read_bytes()).hexdigest()
    except OSError:
        return ""


def _is_whole(folder: Path, files: str) -> bool:
    """Whether the copy is that of the row, and loads."""
    if _digest(folder) != files:
        return False
    try:
        load_artifact(folder)
    except ArtifactError:
        return False
    return True
