"""Where the programs of a running ``tiebreak up`` are, for other commands with its data folder.

Without it ``tiebreak doctor`` and its like would have to be told by hand what ``tiebreak up`` chose
by itself. The file holds no secret; the token of the Label Studio that ``tiebreak up`` made stands
in ``credentials.json``.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

LOCK = "up.pid"
ADDRESSES = "up-addresses.json"
CREDENTIALS = "credentials.json"


class WhatIsUp(PydanticBaseSettingsSource):
    """The addresses, where no Label Studio is named and ``tiebreak up`` runs in the data folder."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Nothing by itself: a setting of this source depends on others."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The settings; none where one of them is named already, or nothing runs."""
        if {"label_studio_url", "LABEL_STUDIO_URL"} & self.current_state.keys():
            return {}
        default = self.settings_cls.model_fields["data_dir"].default
        folder = Path(self.current_state.get("data_dir") or default)
        try:
            found: dict[str, Any] = json.loads((folder / ADDRESSES).read_text())
            if not _is_held(folder / LOCK):
                return {}
            if found.pop("own"):
                kept = json.loads((folder / CREDENTIALS).read_text())
                found["label_studio_api_key"] = kept["api_key"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return found


@contextmanager
def told(folder: Path, *, label_studio_url: str, own: bool, host: str, port: int) -> Iterator[None]:
    """Let other commands know while the block runs. ``own``: the Label Studio is Tiebreak's."""
    path = folder / ADDRESSES
    found = {"label_studio_url": label_studio_url, "own": own, "host": host, "port": port}
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps(found))
    unfinished.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    """Whether a process holds the data folder; what a killed one left is of no use."""
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
