"""A disk that fails when it is told to: real system calls, those of SQLite among them."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_disk.c")
NEVER = 2**62
VARIABLES = ("LD_PRELOAD", "FAILING_DISK_FOLDER", "FAILING_DISK_CONTROL")


class FailingDisk:
    """Writing calls below ``folder`` that fail in processes started with :attr:`environment`.

    ``scratch`` is a folder elsewhere. Nothing fails at first.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        library = scratch / "failing_disk.so"
        if not library.exists():
            command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
            subprocess.run(command, check=True, timeout=120)
        control = scratch / "failing_disk.control"
        control.write_bytes(struct.pack("4q", 0, NEVER, NEVER, 0))
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAILING_DISK_FOLDER": str(folder),
            "FAILING_DISK_CONTROL": str(control),
        }
        self._share(control)

    @classmethod
    def of_environment(cls) -> FailingDisk:
        """The one that this process was started with."""
        made = cls.__new__(cls)
        made.environment = {name: os.environ[name] for name in VARIABLES}
        made._share(Path(os.environ["FAILING_DISK_CONTROL"]))
        return made

    def _share(self, control: Path) -> None:
        with control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 32)

    @staticmethod
    def can_be_built() -> bool:
        """Whether there is a C compiler."""
        return shutil.which("cc") is not None

    @property
    def count(self) -> int:
        """Writing calls since the last order."""
        return int(struct.unpack("q", self._shared[:8])[0])

    def fail(self, error: int, first: int, last: int = NEVER) -> None:
        """From now on, the ``first`` to the ``last`` writing call fail with ``error``."""
        self._shared[:] = struct.pack("4q", 0, first, last, error)

    def work(self) -> None:
        """Nothing fails from now on."""
        self.fail(0, NEVER)
