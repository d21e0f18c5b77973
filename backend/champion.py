"""The version that serves: loaded once per process, verified, swapped when another is promoted."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sqlalchemy import select

from backend.store import Store
from backend.tables import Project, Version
from model.artifact import Artifact, load_artifact
from model.errors import ArtifactError

log = logging.getLogger(__name__)


def artifact_folder(data_dir: Path, project_id: int, number: int) -> Path:
    """Folder of a version on disk."""
    return data_dir / "artifacts" / f"project-{project_id}" / f"v{number}"


class Champions:
    """The serving versions of all projects, as this process last loaded them."""

    def __init__(self, store: Store, data_dir: Path) -> None:
        self._store = store
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._loaded: dict[int, Artifact] = {}
        self._broken: set[tuple[int, int]] = set()

    def get(self, project_id: int) -> Artifact | None:
        """The champion of a project; none while nothing is learned.

        One whose files are damaged is logged, and the newest older one that loads serves instead.
        """
        with self._store.read() as session:
            number = session.scalar(select(Project.champion).where(Project.id == project_id))
        if not number:
            return None
        with self._lock:
            loaded = self._loaded.get(project_id)
            if loaded is None or loaded.version != number:
                loaded = self._load(project_id, number)
            if loaded is not None:
                self._loaded[project_id] = loaded
            return loaded

    def _load(self, project_id: int, number: int) -> Artifact | None:
        for candidate in [number, *self._older(project_id, number)]:
            cached = self._loaded.get(project_id)
            if cached is not None and cached.version == candidate:
                return cached
            if (project_id, candidate) in self._broken:
                continue
            try:
                return load_artifact(artifact_folder(self._data_dir, project_id, candidate))
            except ArtifactError as error:
                self._broken.add((project_id, candidate))
                log.error("project %d: version v%d cannot serve: %s", project_id, candidate, error)
        return None

    def _older(self, project_id: int, number: int) -> list[int]:
        with self._store.read() as session:
            return list(
                session.scalars(
                    select(Version.number)
                    .where(
                        Version.project_id == project_id,
                        Version.kept,
                        Version.number < number,
                    )
                    .order_by(Version.number.desc())
                )
            )
