"""Where the counts of several processes meet: small files below ``metrics/`` in the data folder.

Each run of a server or trainer has a folder of its own there, with files for each of its processes
(prometheus-client's multiprocess mode). A run holds a lock on its folder for as long as one of its
processes lives; whoever starts removes the folders that nobody holds. So a restarted process begins
from nothing, which is what Prometheus expects of counters, and the figures of a gunicorn worker
that died stay until its server ends. There are no gauges in these files, so none can be of a dead
process.
"""

from __future__ import annotations

import fcntl
import glob
import logging
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
LOCK = "lock"
FILE_BYTES = 256 * 1024
"""Room for every metric with all values of its labels. It is set aside at the start: a page of a
mapped file for which a full disk has no room would kill the process."""
ATTEMPTS = 3

_held: list[IO[bytes]] = []


def begin_run(data_dir: Path, process: str) -> None:
    """Make the folder of this run, and remove those of runs that have ended.

    Where that is impossible, this process keeps its counts to itself.
    """
    root = data_dir.resolve() / "metrics"
    name = f"{process}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        # Locked before it has its name: nobody ever sees a folder of a living run without a lock.
        made = root / f".{name}"
        made.mkdir()
        _held.append((made / LOCK).open("wb"))
        fcntl.flock(_held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        made.rename(root / name)
    except OSError as error:
        log.warning("counts are not shared, for %s cannot be used: %s", root, error.strerror)
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = str(root / name)


def share_counts() -> None:
    """Count into files of the run's folder from now on; call it before anything is counted."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return
    try:
        for kind in ("counter", "histogram"):
            path = Path(folder) / f"{kind}_{os.getpid()}.db"
            if not path.exists():
                path.write_bytes(bytes(FILE_BYTES))
    except OSError as error:
        log.warning("counts are not shared, for %s cannot be used: %s", folder, error.strerror)
        values.ValueClass = values.MutexValue
    else:
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def process_name() -> str:
    """``server`` or ``trainer``: which kind of process counts here."""
    return Path(os.environ.get(VARIABLE, "server")).name.partition("-")[0]


def without_counts(environment: dict[str, str]) -> dict[str, str]:
    """An environment for a child process that counts nothing."""
    return {name: value for name, value in environment.items() if name != VARIABLE}


class SharedCounts(Collector):
    """What the processes of all runs have counted."""

    def __init__(self, root: Path) -> None:
        self._pattern = os.path.join(glob.escape(str(root.resolve())), "*", "*.db")

    def collect(self) -> Iterable[Metric]:
        """The sums; a run that ends meanwhile is left out."""
        for _ in range(ATTEMPTS):
            try:
                found = MultiProcessCollector.merge(  # type: ignore[no-untyped-call]
                    glob.glob(self._pattern)
                )
                return list(found)
            except FileNotFoundError:
                continue
        return ()


def counts_of(registry: CollectorRegistry, data_dir: Path) -> Collector:
    """Where to read counts from: the files of all processes, or this process where it has none."""
    shares = getattr(values.ValueClass, "_multiprocess", False)
    return SharedCounts(data_dir / "metrics") if shares else registry


def _sweep(root: Path) -> None:
    """Remove the folders of runs whose processes have all ended."""
    for folder in root.iterdir():
        try:
            with (folder / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            if not folder.name.startswith("."):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its lock is held
