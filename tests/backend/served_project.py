"""A project with versions that give each task probabilities of their own, for a real server.

Everything is in the tables and in files, so the server needs neither weights nor Label Studio.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from backend.store import Store
from tests.backend.conftest import Tables
from tests.backend.saved_versions import IDENTITY, embed_again, save_version
from tests.backend.served_app import settings_in
from tests.callers import LOG_IN, WEBHOOK_SECRET
from tests.tiebreak_process import START_SECONDS, TiebreakServer

CLASSES = ("cat", "dog", "owl")
WIDTH = 16

Json = dict[str, Any]


class ServedProject:
    """``tasks`` embedded tasks and ``versions`` versions of project 1, the last of which serves.

    Weights and embeddings come from ``seed``, and are told apart: no two versions say the same of
    a task.
    """

    def __init__(self, folder: Path, *, tasks: int, versions: int, seed: int = 0) -> None:
        self.folder = folder
        self.settings = settings_in(folder)
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


class ServerProcess(TiebreakServer):
    """``tiebreak serve`` for a :class:`ServedProject`, as a process of its own."""

    stop_seconds = 60.0  # longer than requests in flight are given

    def __init__(self, project: ServedProject, env: Mapping[str, str] | None = None) -> None:
        super().__init__(project.folder, TIEBREAK_WEBHOOK_SECRET=WEBHOOK_SECRET, **(env or {}))

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

    def client(self) -> httpx.Client:
        """A caller who logs in and keeps connections."""
        return httpx.Client(base_url=self.url, auth=LOG_IN, timeout=60, trust_env=False)
