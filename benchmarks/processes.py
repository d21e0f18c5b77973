"""Memory and open files of a process and all that it started."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Use:
    """Resident bytes and open file descriptors of ``processes`` processes together."""

    bytes: int
    descriptors: int
    processes: int


def use_of(pid: int) -> Use:
    """What a process and its descendants use now."""
    family = [pid, *descendants(pid)]
    resident = descriptors = alive = 0
    for member in family:
        with contextlib.suppress(OSError):
            status = (PROC / str(member) / "status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            resident += int(found[1]) * 1024 if found else 0
            descriptors += len(os.listdir(PROC / str(member) / "fd"))
            alive += 1
    return Use(resident, descriptors, alive)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(stat[1]), []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
