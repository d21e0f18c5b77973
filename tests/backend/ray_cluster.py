"""``python -m tests.backend.ray_cluster FOLDER``: a Ray cluster on the loopback address alone, a
head without processors and two worker nodes of one each, until its standard input ends.

It prints its address and the process ids of the workers' raylets as JSON. Only those who have the
token of its environment may use it.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STORE_BYTES = 200_000_000
TRIES = 4
"""Ray gives a node half a minute to start, which a busy machine may exceed."""


@dataclass(frozen=True)
class RayCluster:
    """A running cluster: its address, and the raylets of its two workers."""

    address: str
    raylets: tuple[int, int]

    def workers(self, what: str) -> list[int]:
        """Process ids of the cluster's own processes whose title has ``what``."""
        return [pid for raylet in self.raylets for pid in _children(raylet) if what in _title(pid)]

    def lose(self, node: int) -> None:
        """A worker node is gone, with all that it was doing."""
        for pid in [self.raylets[node], *_children(self.raylets[node])]:
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    """A head and two workers."""
    with running_cluster() as cluster:
        yield cluster


@contextmanager
def running_cluster() -> Iterator[RayCluster]:
    """A head and two workers; the environment of this process has their token meanwhile."""
    # Sockets have short names.
    with (
        tempfile.TemporaryDirectory(
            prefix="tb-ray-", dir="/tmp", ignore_cleanup_errors=True
        ) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        token = Path(name) / "token"
        token.write_text(secrets.token_hex(32))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Nodes of one machine need no address that others reach.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        words = Path(name) / "words"
        with words.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.backend.ray_cluster", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, words.read_text()
            found = json.loads(line)
            yield RayCluster(found["address"], tuple(found["raylets"]))
            process.stdin.close()
            process.wait(60)


def main(folder: str) -> None:
    """Start the nodes, say where they are, and wait."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    port = _free_port()
    nodes = [_started(folder, head=True, gcs_server_port=port, num_cpus=0)]
    address = f"127.0.0.1:{port}"
    nodes += [_started(folder, head=False, gcs_address=address, num_cpus=1) for _ in range(2)]
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes[1:]]
    print(json.dumps({"address": address, "raylets": raylets}), file=told, flush=True)
    sys.stdin.read()
    for node in reversed(nodes):
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


def _started(folder: str, *, head: bool, **more: Any) -> Any:
    """A node as ``ray start`` starts it, which would leave its address for every other program."""
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    for attempt in range(TRIES):
        parameters = RayParams(
            node_ip_address="127.0.0.1",
            object_store_memory=STORE_BYTES,
            temp_dir=folder,
            include_dashboard=False,
            include_log_monitor=False,
            **more,
        )
        try:
            return Node(parameters, head=head, shutdown_at_exit=True, spawn_reaper=False)
        except Exception:
            if attempt == TRIES - 1:
                raise
    raise AssertionError


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main(sys.argv[1])
