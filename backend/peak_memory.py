"""How much memory a piece of work took."""

from __future__ import annotations

import re
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures from where it is made: on a GPU what was allocated there, else the process.

    The kernel keeps the process's highest resident size and sets it back when asked; where it
    does not, nothing is known.
    """

    def __init__(self) -> None:
        self._gpu = torch.cuda.is_available()
        self._known = self._gpu or _set_back()
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()

    @property
    def bytes(self) -> int | None:
        """The most at once so far; None where it is not known."""
        if self._gpu:
            return int(torch.cuda.max_memory_allocated())
        return _highest() if self._known else None


def _set_back() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _highest() -> int | None:
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
