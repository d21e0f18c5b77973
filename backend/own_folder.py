"""A folder that an export makes: there whole or not at all, and replaced only where it is its own.

The folder is written beside its place and renamed. A process killed in between leaves at most a
hidden ``.partial`` or ``.before`` folder beside it, and never half an export in its place. The
files are not forced to disk one by one: after a power cut, export again.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.errors import SetupError
from model.files import remove_quietly, sync_folder, write_through, writing

MARK = "export.json"
"""Says what the folder is, and which files are in it."""
FORMAT = 1


@dataclass
class OwnFolder:
    """A folder that is being written.

    ``path``         where to write; not yet where it will be
    ``description``  what :data:`MARK` will say beside the list of files
    """

    path: Path
    kind: str
    description: dict[str, Any] = field(default_factory=dict)

    def write(self, name: str, data: bytes) -> None:
        """A file of that name, with slashes between folders."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """JSON for people and programs."""
        self.write(name, as_json(content))

    def same(self, name: str, other: str) -> None:
        """``name`` with the content of ``other``, without its bytes where that can be."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path / other, path)
        except OSError:
            shutil.copyfile(self.path / other, path)


def as_json(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON in UTF-8; no NaN."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n"


@contextmanager
def own_folder(to: Path, kind: str) -> Iterator[OwnFolder]:
    """Make ``to`` a folder of that kind, when the block ends well; else leave it as it was.

    An earlier export of the kind is replaced.

    Raises:
        SetupError: ``to`` is no folder, or holds anything that such an export has not written.
        StorageError: it cannot be written.
    """
    target = to.resolve()
    require_own(target, kind)
    unique = uuid.uuid4().hex
    partial = target.with_name(f".{target.name}.{unique}.partial")
    before = target.with_name(f".{target.name}.{unique}.before")
    try:
        with writing("The export", target):
            partial.mkdir(parents=True)
            folder = OwnFolder(partial, kind)
            yield folder
            files = _files(partial)
            mark = {"tiebreak_export": FORMAT, "kind": kind, **folder.description, "files": files}
            write_through(partial / MARK, as_json(mark))
            # Looked at once more: making it may have taken long.
            require_own(target, kind)
            if target.exists():
                os.rename(target, before)
            try:
                os.rename(partial, target)
            except OSError:
                if before.exists():
                    os.rename(before, target)
                raise
            sync_folder(target.parent)
    finally:
        remove_quietly(partial)
        if target.exists():
            remove_quietly(before)


def require_own(target: Path, kind: str) -> None:
    """:class:`SetupError` unless ``target`` is free, empty, or an earlier export of that kind."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise _not_own(target, "is no folder")
    there = set(_files(target))
    if not there:
        return
    try:
        mark = json.loads((target / MARK).read_bytes())
        known = mark["tiebreak_export"] == FORMAT and mark["kind"] == kind
        files = {str(name) for name in mark["files"]}
    except (OSError, ValueError, TypeError, KeyError):
        known, files = False, set()
    if not known:
        raise _not_own(target, f"exists and is no earlier export of this kind ({kind})")
    strange = sorted(there - files - {MARK})
    if strange:
        raise _not_own(target, f"holds {strange[0]}, which no export has written")


def _not_own(target: Path, why: str) -> SetupError:
    return SetupError(f"{target} {why}.", mend="Give --to a folder that is not there yet.")


def _files(folder: Path) -> list[str]:
    """Everything below a folder that is no folder itself, links too."""
    found = []
    for parent, folders, names in os.walk(folder):
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [(Path(parent) / n).relative_to(folder).as_posix() for n in [*names, *linked]]
    return sorted(found)
