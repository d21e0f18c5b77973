"""The real ``tiebreak serve`` and ``tiebreak trainer`` as processes of their own, on 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import httpx

from tests.callers import PASSWORD

REPOSITORY = Path(__file__).resolve().parents[1]
NOWHERE = "http://127.0.0.1:9"
"""An address that refuses connections."""
START_SECONDS, STOP_SECONDS = 60.0, 30.0


class TiebreakServer:
    """``tiebreak serve`` with its data and its log in ``folder``.

    ``others`` are settings beside those of :func:`variables_of`. The port is chosen when this is
    made and kept over restarts. :meth:`stop` waits for ``stop_seconds``.
    """

    stop_seconds = STOP_SECONDS

    def __init__(self, folder: Path, **others: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.variables = variables_of(folder, self.port, **others)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of gunicorn's master."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self._process = start("serve", self.log, self.variables)
        try:
            wait_until_it_answers(self._process, self.url, self.said)
        except BaseException:
            self.close()
            raise
        return self

    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        return stop(process, self.stop_seconds)

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            kill(self._process)
            self._process = None


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def variables_of(folder: Path, port: int, **others: str) -> dict[str, str]:
    """Settings of a Tiebreak in ``folder``; ``others`` go before them.

    Label Studio is at an address that refuses. No image is blind where a test does not ask for it.
    """
    return {
        "LABEL_STUDIO_URL": NOWHERE,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "TIEBREAK_DATA_DIR": str(folder / "data"),
        "TIEBREAK_PORT": str(port),
        "TIEBREAK_PASSWORD": PASSWORD,
        "TIEBREAK_BLIND_SHARE": "0",
        **others,
    }


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process with these settings, and no others of Tiebreak."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TIEBREAK_", "LABEL_STUDIO_")) and name != "DATABASE_URL"
    }
    return {**inherited, **variables}


def start(command: str, log: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``tiebreak COMMAND``, which leads a process group of its own and adds to ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "backend.cli", command],
            cwd=REPOSITORY,
            env=environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_it_answers(
    process: subprocess.Popen[bytes], url: str, explain: Callable[[], str]
) -> None:
    """Wait until a server answers; AssertionError when it ends or never does."""
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        assert process.poll() is None, f"the server ended:\n{explain()}"
        assert time.monotonic() < deadline, f"the server does not answer:\n{explain()}"
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> int:
    """SIGTERM, and the exit code; SIGKILL and TimeoutExpired when it does not end."""
    process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        raise


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
