"""The child process of a comparison of picks: started, asked whether it has ended, ended."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from backend.log_context import exported
from backend.metrics_files import without_counts
from backend.supervise import LEASH, signal_group

log = logging.getLogger(__name__)

LOG = "child.log"


class PayoffSlot:
    """The one comparison that a trainer runs at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.project_id: int | None = None
        """The project that it is about; None while there is none."""
        self.version = 0
        """The version that served the labels."""

    def start(self, project_id: int, version: int, folder: Path) -> None:
        """Start the child that works in ``folder``."""
        assert self._process is None
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
        job = [sys.executable, "-m", "backend.payoff_job", str(folder.resolve())]
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        with (folder / LOG).open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [*leash, *job],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **without_counts(dict(os.environ)),
                    **exported(),
                    **dict.fromkeys(threads, "1"),
                },
                start_new_session=True,
            )
        self.project_id, self.version = project_id, version
        log.info("project %d: picks are compared in process %d", project_id, self._process.pid)

    def ended(self) -> bool:
        """Whether the child has ended, and the slot is free then."""
        assert self._process is not None
        if self._process.poll() is None:
            return False
        self._process, self.project_id = None, None
        return True

    def stop(self) -> None:
        """End the child, if there is one."""
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process, self.project_id = None, None
