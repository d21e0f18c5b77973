"""The project that ``tiebreak up`` labels: found again or made, and given its images.

What was made and imported is kept in ``up.json``, so a task that somebody deleted stays deleted. It
is written after each batch: a run that is killed in between repeats at most that batch, and of
images served from disk none at all, since those are also looked for among the project's tasks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from backend.demo import TITLE_LENGTHS, ImageSet, Say, local_uri, serve_images, single_choice_config
from backend.errors import LabelStudioNotFound, SetupError
from backend.labelstudio import LabelStudio, Project

SERVED_BATCH = 5000
UPLOAD_BATCH = 50


@dataclass
class Remembered:
    """What earlier runs did for one set of images in one Label Studio."""

    project: int | None = None
    imported: list[str] = field(default_factory=list)


class Memory:
    """``up.json``: for each Label Studio, set of images and title, what was done.

    SetupError when the file cannot be read as one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Remembered] = {}
        try:
            entries = json.loads(path.read_text())
            self._entries = {key: Remembered(**entry) for key, entry in entries.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SetupError(
                f"{path} cannot be read ({type(error).__name__}: {error}).",
                mend="Remove it: images are then imported once more where they are uploads.",
            ) from error

    def of(self, *key: str) -> Remembered:
        """The entry for a key, a new one on first use."""
        return self._entries.setdefault("\n".join(key), Remembered())

    def projects(self) -> set[int]:
        """Every project that was made or found for some set of images."""
        return {entry.project for entry in self._entries.values() if entry.project is not None}

    def save(self) -> None:
        """Write the file whole, beside it first."""
        partial = self._path.with_suffix(".partial")
        partial.write_text(
            json.dumps({key: asdict(entry) for key, entry in self._entries.items()}, indent=1)
        )
        partial.replace(self._path)


def ensure_project(
    label_studio: LabelStudio,
    memory: Memory,
    images: ImageSet,
    title: str | None,
    *,
    ours: bool,
) -> tuple[Project, Remembered]:
    """The project of an earlier run, else one with that title, else a new one.

    A title that nobody asked for is only looked up in a Label Studio that is ``ours``: elsewhere
    a project called Digits may be somebody else's. SetupError when ``title`` is too short or long.
    """
    wanted = _checked_title(title) if title else images.title
    entry = memory.of(label_studio.url, images.key, wanted)
    found = _existing(label_studio, entry.project)
    if found is None and (ours or title):
        taken = memory.projects()
        same = (p for p in label_studio.projects() if p.title == wanted and p.id not in taken)
        found = next(same, None)
    if found is None:
        found = label_studio.create_project(wanted, single_choice_config(images.classes))
    if entry.project != found.id:
        entry.project, entry.imported = found.id, []
        memory.save()
    return found, entry


def import_served(
    label_studio: LabelStudio, memory: Memory, entry: Remembered, images: ImageSet, served: Path
) -> int:
    """Make tasks of images that Label Studio serves from disk; how many are new."""
    inside = images.folder.is_relative_to(served)
    folder = images.folder if inside else serve_images(images, served)
    project_id = _project_id(entry)
    label_studio.open_local_folder(project_id, folder, title=f"Images of {images.title}"[:256])
    new = _new_names(entry, images)
    if new:
        there = {str(uri) for t in label_studio.tasks(project_id) for uri in t.data.values()}
        new = [name for name in new if local_uri(folder, name) not in there]
    for start in range(0, len(new), SERVED_BATCH):
        batch = new[start : start + SERVED_BATCH]
        tasks = [{"data": {"image": local_uri(folder, name)}} for name in batch]
        label_studio.import_tasks(project_id, tasks)
        _remember(memory, entry, batch)
    _remember(memory, entry, _new_names(entry, images))
    return len(new)


def upload(
    label_studio: LabelStudio, memory: Memory, entry: Remembered, images: ImageSet, say: Say
) -> int:
    """Upload images to a Label Studio that cannot read this disk; how many are new."""
    new = _new_names(entry, images)
    for start in range(0, len(new), UPLOAD_BATCH):
        say(f"{start} of {len(new)}")
        batch = new[start : start + UPLOAD_BATCH]
        label_studio.upload_files(_project_id(entry), [images.folder / name for name in batch])
        _remember(memory, entry, batch)
    return len(new)


def _existing(label_studio: LabelStudio, project_id: int | None) -> Project | None:
    if project_id is None:
        return None
    try:
        return label_studio.project(project_id)
    except LabelStudioNotFound:
        return None


def _new_names(entry: Remembered, images: ImageSet) -> list[str]:
    known = set(entry.imported)
    return [name for name in images.names if name not in known]


def _remember(memory: Memory, entry: Remembered, names: Sequence[str]) -> None:
    if names:
        entry.imported.extend(names)
        memory.save()


def _project_id(entry: Remembered) -> int:
    if entry.project is None:
        raise SetupError("The images have no project yet.")
    return entry.project


def _checked_title(title: str) -> str:
    shortest, longest = TITLE_LENGTHS
    stripped = title.strip()
    if not shortest <= len(stripped) <= longest:
        raise SetupError(
            f"TITLE={title!r} has {len(stripped)} characters.",
            mend=f"Label Studio allows {shortest} to {longest}.",
        )
    return stripped
