"""A project with versions that give each task probabilities of their own, for a real server.

Everything is in the tables and in files, so the server needs neither weights nor Label Studio.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from backend.settings import Settings
from backend.store import Store
from tests.backend.conftest import Tables
from tests.backend.saved_versions import IDENTITY, embed_again, save_version
from tests.callers import LOG_IN, PASSWORD, WEBHOOK_SECRET

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("cat", "dog", "owl")
WIDTH = 16
START_SECONDS, STOP_SECONDS = 60.0, 60.0

Json = dict[str, Any]


class ServedProject:
    """``tasks`` embedded tasks and ``versions`` versions of project 1, the last of which serves.

    Weights and embeddings come from ``seed``, and are told apart: no two versions say the same of
    a task.
    """

    def __init__(self, folder: Path, *, tasks: int, versions: int, seed: int = 0) -> None:
        self.folder = folder
        self.settings = Settings(
            data_dir=folder / "data",
            label_studio_url="http://127.0.0.1:9",
            label_studio_api_key="0" * 40,
            database_url=None,
            password=PASSWORD,
            webhook_secret=WEBHOOK_SECRET,
        )
        self.store = Store(self.settings.database_address)
        self.store.migrate()
        self.tables = Tables(self.store)
        generator = np.random.default_rng(seed)
        for task in range(1, tasks + 1):
            self.tables.task(task, generator.standard_normal(WIDTH))
        embed_again(self.tables)
        for number in range(1, versions + 1):
            weights = generator.standard_normal((WIDTH, len(CLASSES))).astype(np.float32)
            save_version(self.tables, self.settings, number, weights=weights, backbone=IDENTITY)

    def body(self, tasks: Sequence[int]) -> Json:
        """What Label Studio sends to ``/predict`` for these tasks."""
        return {
            "project": "1.1",
            "tasks": [{"id": n, "data": {"image": f"/data/{n}.png"}} for n in tasks],
        }

    def close(self) -> None:
        """Give the database back."""
        self.store.close()


class ServerProcess:
    """``tiebreak serve`` for a :class:`ServedProject`, as a process of its own."""

    def __init__(self, project: ServedProject, env: Mapping[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = project.folder / "server.log"
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "LABEL_STUDIO_URL": "http://127.0.0.1:9",
            "LABEL_STUDIO_API_KEY": "0" * 40,
            "TIEBREAK_DATA_DIR": str(project.settings.data_dir),
            "TIEBREAK_PORT": str(self.port),
            "TIEBREAK_PASSWORD": PASSWORD,
            "TIEBREAK_WEBHOOK_SECRET": WEBHOOK_SECRET,
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of gunicorn's master."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> ServerProcess:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "backend.cli", "serve"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        return self

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def workers(self) -> set[int]:
        """Process ids of the processes that answer."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {int(child) for child in children}

    def renew(self) -> None:
        """SIGHUP: new workers take the place of the old ones; waits until these have ended."""
        before = self.workers()
        os.kill(self.pid, signal.SIGHUP)
        deadline = time.monotonic() + START_SECONDS
        while before & self.workers():
            assert time.monotonic() < deadline, "the old workers do not end"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(STOP_SECONDS)
        self._process = None
        return code

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def client(self) -> httpx.Client:
        """A caller who logs in and keeps connections."""
        return httpx.Client(base_url=self.url, auth=LOG_IN, timeout=60, trust_env=False)
