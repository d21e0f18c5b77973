"""The version that serves: loaded once per process, verified, swapped when another is promoted."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sqlalchemy import select

from backend.store import Store
from backend.tables import Project, Version
from backend.tuned_networks import check_tuned, network_path, tuned_folder
from model.artifact import Artifact, load_artifact
from model.errors import ArtifactError

log = logging.getLogger(__name__)


LONGEST_HISTORY = 100


def artifact_folder(data_dir: Path, project_id: int, number: int) -> Path:
    """Folder of a version on disk."""
    return data_dir / "artifacts" / f"project-{project_id}" / f"v{number}"


def load_whole(data_dir: Path, project_id: int, number: int) -> Artifact:
    """A version with every check, of the fine-tuned network that its heads read too.

    :class:`ArtifactError` when anything of it is missing or damaged.
    """
    artifact = load_artifact(artifact_folder(data_dir, project_id, number))
    check_tuned(tuned_folder(data_dir), artifact)
    return artifact


def replace_champion(project: Project, number: int) -> None:
    """Make a version the champion, and remember the one that it replaces."""
    if project.champion:
        project.history = [*project.history, project.champion][-LONGEST_HISTORY:]
    project.champion = number


class Champions:
    """The serving versions of all projects, as this process last loaded them."""

    def __init__(self, store: Store, data_dir: Path) -> None:
        self._store = store
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._loaded: dict[int, Artifact] = {}
        self._broken: dict[tuple[int, int], object] = {}

    def get(self, project_id: int) -> Artifact | None:
        """The champion of a project; none while nothing is learned.

        One whose files are damaged is logged, and the newest older one that loads serves instead.
        """
        with self._store.read() as session:
            number = session.scalar(select(Project.champion).where(Project.id == project_id))
        return self.load(project_id, number or 0)

    def load(self, project_id: int, number: int) -> Artifact | None:
        """The version that serves where ``number`` is the champion, as :meth:`get`."""
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
            seen = self._stamp(project_id, candidate)
            if self._broken.get((project_id, candidate)) == seen:
                continue
            try:
                return load_whole(self._data_dir, project_id, candidate)
            except ArtifactError as error:
                self._broken[project_id, candidate] = seen
                log.error("project %d: version v%d cannot serve: %s", project_id, candidate, error)
        return None

    def _older(self, project_id: int, number: int) -> list[int]:
        """Versions to fall back to: those that served before, then what was kept and is older."""
        with self._store.read() as session:
            history = session.scalar(select(Project.history).where(Project.id == project_id)) or []
            kept = session.scalars(
                select(Version.number)
                .where(
                    Version.project_id == project_id,
                    Version.kept,
                    ~Version.pruned,
                    Version.number < number,
                )
                .order_by(Version.number.desc())
            ).all()
        return [n for n in dict.fromkeys([*reversed(history), *kept]) if n != number]

    def _stamp(self, project_id: int, number: int) -> object:
        """Changes when somebody restores a version's files: they are then tried again."""
        with self._store.read() as session:
            row = session.get(Version, (project_id, number))
        folder = artifact_folder(self._data_dir, project_id, number)
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        if row is not None:
            paths.append(network_path(tuned_folder(self._data_dir), row.backbone))
        return tuple(_seen(path) for path in paths)


def _seen(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return path.name
    return path.name, stat.st_size, stat.st_mtime_ns
