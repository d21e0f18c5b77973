"""The version that serves: loaded once per process, verified, swapped when another is promoted."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from sqlalchemy import select

from backend.shared_files import SharedFiles
from backend.shared_versions import fetch_version
from backend.store import Store
from backend.tables import Project, Version
from backend.tuned_networks import check_tuned, fetch_tuned, network_path, tuned_folder
from model.artifact import Artifact, load_artifact
from model.errors import ArtifactError, StorageError

log = logging.getLogger(__name__)


LONGEST_HISTORY = 100
SHARED_SECONDS = 15
"""How long a version that the bucket did not give is left alone, while another one serves."""


def artifact_folder(data_dir: Path, project_id: int, number: int) -> Path:
    """Folder of a version on disk."""
    return data_dir / "artifacts" / f"project-{project_id}" / f"v{number}"


def load_whole(
    data_dir: Path,
    project_id: int,
    number: int,
    shared: SharedFiles | None = None,
    files: str = "",
) -> Artifact:
    """A version with every check, of the fine-tuned network that its heads read too.

    With a bucket, what is not here whole is fetched first; ``files`` is what the version's row
    says. :class:`ArtifactError` when anything of it is missing or damaged, :class:`StorageError`
    when the bucket cannot be had.
    """
    folder = artifact_folder(data_dir, project_id, number)
    if shared is not None and files:
        fetch_version(shared, folder, project_id, number, files)
    artifact = load_artifact(folder)
    if shared is not None:
        fetch_tuned(shared, tuned_folder(data_dir), artifact)
    check_tuned(tuned_folder(data_dir), artifact)
    return artifact


def replace_champion(project: Project, number: int) -> None:
    """Make a version the champion, and remember the one that it replaces."""
    if project.champion:
        project.history = [*project.history, project.champion][-LONGEST_HISTORY:]
    project.champion = number


class Champions:
    """The serving versions of all projects, as this process last loaded them.

    ``shared``: the bucket that versions come from; while it cannot be had, what is here serves.
    ``patient``: then a version is waited for instead, by raising :class:`StorageError`.
    """

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        shared: SharedFiles | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self._store = store
        self._data_dir = data_dir
        self._shared = shared
        self._patient = patient
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
        before = self._loaded.get(project_id)
        if before is not None and before.version == number:
            return before
        # A bucket may be slow: only one thread waits for it where there is something to serve.
        if not self._lock.acquire(blocking=self._shared is None or before is None):
            return before
        try:
            loaded = self._loaded.get(project_id)
            if loaded is None or loaded.version != number:
                loaded = self._load(project_id, number)
            if loaded is not None:
                self._loaded[project_id] = loaded
            return loaded
        finally:
            self._lock.release()

    def _load(self, project_id: int, number: int) -> Artifact | None:
        for candidate in [number, *self._older(project_id, number)]:
            cached = self._loaded.get(project_id)
            if cached is not None and cached.version == candidate:
                return cached
            seen, files = self._stamp(project_id, candidate)
            if self._broken.get((project_id, candidate)) == seen:
                continue
            try:
                return load_whole(self._data_dir, project_id, candidate, self._shared, files)
            except (ArtifactError, StorageError) as error:
                if self._patient and isinstance(error, StorageError):
                    raise
                # Fetching may have changed what lies here.
                self._broken[project_id, candidate] = self._stamp(project_id, candidate)[0]
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

    def _stamp(self, project_id: int, number: int) -> tuple[object, str]:
        """Changes when somebody restores a version's files: they are then tried again. And what
        names them in the bucket, where one is tried again from time to time."""
        with self._store.read() as session:
            row = session.get(Version, (project_id, number))
        folder = artifact_folder(self._data_dir, project_id, number)
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        if row is not None:
            paths.append(network_path(tuned_folder(self._data_dir), row.backbone))
        turn = int(time.monotonic() / SHARED_SECONDS) if self._shared is not None else 0
        return (turn, *(_seen(path) for path in paths)), row.files if row is not None else ""


def _seen(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return path.name
    return path.name, stat.st_size, stat.st_mtime_ns
