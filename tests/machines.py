"""Several machines on this one: network namespaces on a bridge, with clocks that disagree.

The process that makes them goes into a namespace of its own and is the hub, at :data:`HUB`. All of
it goes away with the processes; nothing outside is touched. Linux, and the right to do so, are
needed: see :func:`why_not`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.tiebreak_process import REPOSITORY, environment, kill, stop

HUB = "10.77.0.1"
SOURCE = Path(__file__).with_name("shifted_clock.c")
_NEW_NETWORK = 0x40000000


def why_not() -> str:
    """Why there can be no several machines here; empty where there can."""
    for program in ("ip", "nsenter", "unshare", "cc"):
        if shutil.which(program) is None:
            return f"there is no program {program}; Debian: apt-get install iproute2 util-linux gcc"
    trial = "ip link set lo up && ip link add hub type bridge && ip link add one type veth"
    done = subprocess.run(["unshare", "-n", "sh", "-c", trial], capture_output=True, text=True)
    return f"network namespaces are not allowed here: {done.stderr}" if done.returncode else ""


def become_hub() -> None:
    """Put this process into a network of its own, with a bridge that machines can be tied to.

    To be called before any thread is started.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "unshare")
    _ip("link set lo up")
    _ip("link add hub type bridge")
    _ip(f"address add {HUB}/24 dev hub")
    _ip("link set hub up")


def shifted_clock(folder: Path) -> Path:
    """The library that shifts the clock of what is started with it."""
    library = folder / "shifted_clock.so"
    if not library.exists():
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=120)
    return library


class Machine:
    """A machine with an address, a data folder and a clock of its own.

    ``number``: from 1 on. ``shift``: seconds by which its clock is wrong. ``variables`` are the
    settings of what runs on it.
    """

    def __init__(self, number: int, folder: Path, shift: int, variables: Mapping[str, str]) -> None:
        self.number, self.folder, self.shift = number, folder / f"machine-{number}", shift
        self.address = f"10.77.0.{10 + number}"
        self.folder.mkdir()
        self._cable = f"to{number}"
        self.variables = {
            **variables,
            "TIEBREAK_DATA_DIR": str(self.folder / "data"),
            "TIEBREAK_HOST": self.address,
            "LD_PRELOAD": str(shifted_clock(folder)),
            "CLOCK_SHIFT": str(shift),
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        # As long as this one sleeps, its network is there.
        self._holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])

    def start(self) -> Self:
        """Tie it to the hub."""
        pid = self._holder.pid
        while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            os.sched_yield()
        _ip(f"link add {self._cable} type veth peer name cable netns {pid}")
        _ip(f"link set {self._cable} master hub up")
        for command in (
            "link set lo up",
            f"address add {self.address}/24 dev cable",
            "link set cable up",
        ):
            subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *command.split()], check=True)
        return self

    def run(self, command: str) -> None:
        """Start ``tiebreak COMMAND`` on it."""
        with self._log(command).open("ab") as output:
            self._running[command] = subprocess.Popen(
                [
                    *("nsenter", "-t", str(self._holder.pid), "-n"),
                    *(sys.executable, "-m", "backend.cli", command),
                ],
                cwd=REPOSITORY,
                env=environment(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, command: Sequence[str]) -> str:
        """What a command says that is run on it, with its clock."""
        inside = ("nsenter", "-t", str(self._holder.pid), "-n")
        done = subprocess.run(
            [*inside, *command],
            env=environment(self.variables),
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout + done.stderr

    def cut(self) -> None:
        """Pull the cable."""
        _ip(f"link set {self._cable} down")

    def mend(self) -> None:
        """Put the cable back."""
        _ip(f"link set {self._cable} up")

    def pid(self, command: str) -> int:
        """Process id of what runs on it."""
        return self._running[command].pid

    def runs(self, command: str) -> bool:
        """Whether it still does."""
        return self._running[command].poll() is None

    def said(self, command: str) -> str:
        """All that it has logged."""
        return self._log(command).read_text(errors="replace")

    def stop(self) -> dict[str, int]:
        """SIGTERM to all that runs on it, and the exit codes."""
        codes = {command: stop(each, 60) for command, each in self._running.items()}
        self._running.clear()
        return codes

    def close(self) -> None:
        """End it and all that runs on it."""
        for process in self._running.values():
            kill(process)
        self._running.clear()
        self._holder.kill()
        self._holder.wait()

    def _log(self, command: str) -> Path:
        return self.folder / f"{command}.log"


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)
