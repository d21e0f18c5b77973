"""The real ``tiebreak serve`` and ``tiebreak trainer`` for tests: started, killed and restarted.

Both run from this checkout as processes of their own, with their own data folder, and write into
``server.log`` and ``trainer.log`` beside it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from model.audit import in_audit, in_blind
from tests.callers import LOG_IN, USER
from tests.e2e.label_studio_server import LabelStudioServer
from tests.tiebreak_process import (
    REPOSITORY,
    environment,
    free_port,
    kill,
    start,
    stop,
    variables_of,
    wait_until_it_answers,
)

Json = dict[str, Any]
Found = TypeVar("Found")

SERVER, TRAINER = "server", "trainer"
COMMANDS = {SERVER: "serve", TRAINER: "trainer"}


class TiebreakProcesses:
    """One server and one trainer on 127.0.0.1 against one Label Studio.

    ``env`` overrides settings. The server's port is chosen when this is made and kept over
    restarts, as is the data folder.
    """

    def __init__(
        self,
        folder: Path,
        label_studio: LabelStudioServer,
        weights: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.token,
            "TIEBREAK_USER": USER,
            "TIEBREAK_WEIGHTS_DIR": str(weights),
            "TIEBREAK_INPUT_SIZE": "96",
            "TIEBREAK_QUIET_SECONDS": "0.2",
            **(env or {}),
        }
        self.env = variables_of(folder, self.port, **settings)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._client = httpx.Client(base_url=self.url, auth=LOG_IN, timeout=30, trust_env=False)
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> TiebreakProcesses:
        """Start both and wait until the server answers and the trainer shows a sign of life."""
        self.start_server()
        self.start_trainer()
        return self

    def start_server(self) -> None:
        """Start the server and wait until it answers."""
        self._start(SERVER)
        wait_until_it_answers(self._running[SERVER], self.url, self.tails)

    def start_trainer(self) -> None:
        """Start the trainer; it works once it has migrated the database."""
        self._start(TRAINER)

    def pid(self, name: str) -> int:
        """Process id of ``server`` or ``trainer``."""
        return self._running[name].pid

    def stop(self, name: str) -> int:
        """SIGTERM, and the exit code."""
        return stop(self._running.pop(name))

    def kill(self, name: str) -> None:
        """SIGKILL to the process and whatever it started."""
        kill(self._running.pop(name))

    def close(self) -> None:
        """Stop whatever runs."""
        # The server waits for open connections before it ends.
        self._client.close()
        for name in list(self._running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(name)

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run another command, such as ``connect``, with the same settings."""
        command = [sys.executable, "-m", "backend.cli", *arguments]
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment(self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def connect(self, project: int) -> Json:
        """Run ``tiebreak connect --json``; what it prints."""
        done = self.run("connect", str(project), "--json")
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return dict(json.loads(done.stdout))

    def get(self, path: str) -> Json:
        """JSON of a GET."""
        return dict(self._client.get(path).raise_for_status().json())

    def post(self, path: str, body: Json) -> httpx.Response:
        """Answer to a POST with a JSON body."""
        return self._client.post(path, json=body)

    def status(self, project: int) -> Json:
        """How the server says that a project stands."""
        return self.get(f"/api/projects/{project}")

    def wait(
        self,
        project: int,
        condition: Callable[[Json], Found | None],
        seconds: float = 120,
    ) -> Found:
        """Wait until the condition on a project's status is true; its value."""
        last: Json = {}

        def ask() -> Found | None:
            nonlocal last
            with contextlib.suppress(httpx.HTTPStatusError):
                last = self.status(project)
            return condition(last) if last else None

        return wait_until(ask, seconds, lambda: f"{json.dumps(last, indent=1)}\n{self.tails()}")

    def settle(self, project: int, seconds: float = 120) -> Json:
        """Wait until the trainer has nothing left to do; the status then."""
        return self.wait(project, lambda s: s if is_settled(s) else None, seconds)

    def labels(self, project: int, control: str = "label") -> dict[int, tuple[str, list[str]]]:
        """Task number → status and choices of its label, as the database has them."""
        query = "SELECT task_id, status, choices FROM labels WHERE project_id = ? AND control = ?"
        rows = self._rows(query, project, control)
        return {task: (status, json.loads(choices)) for task, status, choices in rows}

    def audit_tasks(self, project: int, share: float = 0.1) -> set[int]:
        """Numbers of the tasks whose image is in the audit set, as the database has it."""
        return {task for task, leader in self._leaders(project) if in_audit(leader, share)}

    def blind_tasks(self, project: int, share: float) -> set[int]:
        """Numbers of the tasks whose image is drawn to be blind, as the database has it."""
        return {task for task, leader in self._leaders(project) if in_blind(leader, project, share)}

    def _leaders(self, project: int) -> list[tuple[int, str]]:
        """The tasks, and the leaders of their images' groups."""
        query = """
            SELECT task_id, leader FROM task_images
            JOIN image_sources USING (source)
            JOIN image_groups USING (digest, project_id)
            WHERE project_id = ?"""
        return [(int(task), leader) for task, leader in self._rows(query, project)]

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self._rows(f"SELECT COUNT(*) FROM {table}")[0][0])

    def requests_waiting(self, project: int) -> int:
        """How many requests for a training wait or are being answered."""
        query = "SELECT COUNT(train_requested_at) FROM projects WHERE id = ?"
        return int(self._rows(query, project)[0][0])

    def wait_labels(self, project: int, wanted: Mapping[int, str], seconds: float = 30) -> None:
        """Wait until the agreed labels of a project are these, and no others."""

        def agreed() -> dict[int, str]:
            labels = self.labels(project).items()
            return {task: picked[0] for task, (status, picked) in labels if status == "agreed"}

        def explain() -> str:
            return f"wanted {dict(wanted)}\nthere are {agreed()}\n{self.tails()}"

        wait_until(lambda: agreed() == wanted, seconds, explain)

    def log(self, name: str) -> str:
        """All that a process wrote so far."""
        path = self._log(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def tails(self, lines: int = 15) -> str:
        """The last lines of both logs."""
        return "\n".join(
            f"--- {name}.log\n" + "\n".join(self.log(name).splitlines()[-lines:])
            for name in COMMANDS
        )

    def _rows(self, query: str, *values: object) -> list[Any]:
        address = f"file:{self.data / 'tiebreak.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=30)) as database:
            return database.execute(query, values).fetchall()

    def _start(self, name: str) -> None:
        assert name not in self._running, f"{name} runs already"
        self._running[name] = start(COMMANDS[name], self._log(name), self.env)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def wait_until(
    condition: Callable[[], Found | None],
    seconds: float = 120,
    explain: Callable[[], str] = lambda: "",
) -> Found:
    """Wait until the condition is true, and give its value; AssertionError when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"still not so after {seconds:g} s\n{explain()}"
        time.sleep(0.1)


def is_settled(status: Json) -> bool:
    """Whether a status says that nothing is left to do."""
    return (
        status["tasks"] > 0
        and not status["activity"]
        and not status["error"]
        and status["served"] == status["order"]
        and status["embedded"] + status["broken"] >= status["images"]
    )


def labels_learned(status: Json) -> int:
    """From how many labels the newest version learned; 0 without a version."""
    return int(status["last_version"]["labels"]) if status["last_version"] else 0
