"""The child process of a fine-tune: started at low priority, followed, ended with its parent.

It runs beside the trainer, so that heads, predictions and the page never wait for it, and can be
killed at any instant: what it had learned is in its folder.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from backend.finetune_files import RESULT
from backend.log_context import exported
from backend.metrics_files import without_counts
from backend.supervise import LEASH, signal_group

log = logging.getLogger(__name__)

LOG = "child.log"
LOOK_SECONDS = 1.0
"""Time between two looks at the child."""
STOP_SECONDS = 5.0
FEW_CORES = 2
_FRUGAL = {
    # Threads that spin while they wait take the cores from everything else.
    "OMP_WAIT_POLICY": "passive",
    # Each step wants the same memory again. Given back to the system it comes again page by page,
    # which costs up to half as much as what is computed in it.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


@dataclass
class _Child:
    number: int
    project_id: int
    process: subprocess.Popen[bytes]


class FineTuneSlot:
    """The one fine-tune that a trainer runs at a time."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    @property
    def project_id(self) -> int | None:
        """The project whose fine-tune runs, or ran and was not looked at yet."""
        return self._child.project_id if self._child else None

    def holds(self, number: int) -> bool:
        """Whether it is the fine-tune of that number."""
        return self._child is not None and self._child.number == number

    def start(self, number: int, project_id: int, folder: Path) -> None:
        """Start the child that works in ``folder``."""
        assert self._child is None
        (folder / RESULT).unlink(missing_ok=True)
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
        job = [sys.executable, "-m", "backend.finetune_job", str(folder.resolve())]
        with (folder / LOG).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603
                [*leash, *job],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )
        self._child = _Child(number, project_id, process)
        log.info("project %d: fine-tune %d learns in process %d", project_id, number, process.pid)

    def ended(self) -> int | None:
        """The child's return code, and the slot is free then; None while it runs."""
        assert self._child is not None
        status = self._child.process.poll()
        if status is None:
            return None
        # What its helpers are still doing is of no use to anybody.
        signal_group(self._child.process.pid, signal.SIGKILL)
        self._child = None
        return status

    def stop(self) -> None:
        """End the child, if there is one; its checkpoint stays."""
        if self._child is None:
            return
        process = self._child.process
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the fine-tune does not end by itself; it is killed")
        signal_group(process.pid, signal.SIGKILL)
        process.wait()
        self._child = None


def environment() -> dict[str, str]:
    """What the child finds around it: this process's, and how it is to use threads and memory."""
    return {**_FRUGAL, **without_counts(dict(os.environ)), **exported(), **_thread_limits()}


def thread_count() -> int:
    """Threads that a fine-tune computes with: OMP_NUM_THREADS where it is set, else the cores, one
    of which is left free where there are more than two.

    On two cores it takes both; its low priority gives them back whenever anybody else wants them.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    return cores if cores <= FEW_CORES else cores - 1


def _thread_limits() -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(thread_count()))
