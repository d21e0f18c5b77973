"""Puts the files of a new version in place, in the moment in which it becomes known."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.champion import artifact_folder
from model.artifact import Artifact, save_artifact
from model.files import remove_quietly, sync_folder, writing


@contextmanager
def laid_down(data_dir: Path, project_id: int, artifact: Artifact) -> Iterator[Callable[[], None]]:
    """Write a version beside its place; what is given puts it there, in an instant.

    To be called within the transaction that makes it known, after the lease was checked: a trainer
    that woke up late must not touch the folder of the one that took over. A folder that a killed
    training left in that place is replaced, and what lies half-written beside it removed.
    """
    folder = artifact_folder(data_dir, project_id, artifact.version)
    staged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.staged")

    def put_in_place() -> None:
        with writing(f"Version {artifact.version}", folder):
            if folder.exists():
                shutil.rmtree(folder)
            os.rename(staged, folder)
            sync_folder(folder.parent)
        for left in (*folder.parent.glob(".*.staged"), *folder.parent.glob(".*.partial")):
            remove_quietly(left)

    try:
        save_artifact(staged, artifact)
        yield put_in_place
    finally:
        remove_quietly(staged)
