"""Finished rows of an experiment on disk, so that a killed one goes on.

One JSON object a line, each written and flushed at once. A kill leaves at most one line that is
cut; it is skipped when the file is read, and the next line starts on its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.errors import SetupError


def key_of(description: Mapping[str, Any]) -> str:
    """16 hex digits for what a row depends on; equal descriptions have equal keys."""
    text = json.dumps(description, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ResultsFile:
    """Rows by their ``key``; the last one of a key counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> dict[str, dict[str, Any]]:
        """What is there, by key; lines that are not such rows are left out."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SetupError(f"{self.path} cannot be read ({error.strerror}).") from None
        found = {}
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("key"), str):
                found[row["key"]] = row
        return found

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row, on disk when this returns."""
        try:
            with self.path.open("a+b") as file:
                start = b"" if _ends_a_line(file) else b"\n"
                file.write(start + json.dumps(row, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SetupError(
                f"{self.path} cannot be written ({error.strerror}).",
                mend="Name a place that can be, with --out.",
            ) from None

    def forget(self) -> None:
        """Remove what is there."""
        self.path.unlink(missing_ok=True)


def _ends_a_line(file: Any) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
