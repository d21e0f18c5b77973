"""Puts the files of a new version in place, in the moment in which it becomes known."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.champion import artifact_folder
from backend.shared_files import SharedFiles
from backend.shared_versions import share_version, withdraw_version
from model.artifact import Artifact, save_artifact
from model.files import remove_quietly, sync_folder, writing


@dataclass(frozen=True)
class LaidDown:
    """A version that waits beside its place. ``files`` names its objects in the bucket, for its
    row; empty without a bucket."""

    put_in_place: Callable[[], None]
    files: str = ""


@contextmanager
def laid_down(
    data_dir: Path, project_id: int, artifact: Artifact, shared: SharedFiles | None = None
) -> Iterator[LaidDown]:
    """Write a version beside its place, and send it to the bucket; what is given puts it there, in
    an instant.

    That is to be called within the transaction that makes it known, after the lease was checked: a
    trainer that woke up late must not touch the folder of the one that took over. A folder that a
    killed training left in that place is replaced, and what lies half-written beside it removed.
    """
    folder = artifact_folder(data_dir, project_id, artifact.version)
    staged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.staged")
    files, placed = "", False

    def put_in_place() -> None:
        nonlocal placed
        placed = True
        with writing(f"Version {artifact.version}", folder):
            if folder.exists():
                shutil.rmtree(folder)
            os.rename(staged, folder)
            sync_folder(folder.parent)
        for left in (*folder.parent.glob(".*.staged"), *folder.parent.glob(".*.partial")):
            remove_quietly(left)

    try:
        save_artifact(staged, artifact)
        if shared is not None:
            files = share_version(shared, project_id, artifact.version, staged)
        yield LaidDown(put_in_place, files)
    finally:
        remove_quietly(staged)
        # Once it may have been committed, nobody here knows that it was not.
        if shared is not None and files and not placed:
            withdraw_version(shared, project_id, artifact.version, files)
