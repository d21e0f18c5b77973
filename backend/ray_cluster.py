"""The way into a Ray cluster, for processes that may end with it: never the trainer itself.

Ray ends a process whose cluster is gone. So whoever asks a cluster for something is a child
(:mod:`backend.ray_child`, :mod:`backend.finetune_job`).
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import EngineError
from model.packages import pip_install

CONNECT_SECONDS = 10.0
MOST_CORES = 4
"""Of an actor without a GPU: more of them gain little from one batch."""
ROOMS = ("backend", "model")
MEND = "docs/ray.md says how the cluster is set up; it is tried again."


@dataclass(frozen=True)
class Places:
    """How much of a cluster one worker takes, and for how many there is room."""

    most: int
    cpus: int
    gpus: int


def connect(address: str) -> None:
    """Become a driver of the cluster at ``address``, ``host:port`` of its head.

    The project's code goes with it; what it imports must be installed there. EngineError when the
    cluster cannot be reached, or is of another version of Ray or Python.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ImportError:
        raise EngineError(
            "TIEBREAK_ENGINE=ray, and Ray is not installed here.",
            mend=f"Install the cluster's version of it: {pip_install('ray[data,train]')}",
        ) from None
    if ray.is_initialized():
        return
    _knock(address)
    root = Path(__file__).resolve().parents[1]
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"py_modules": [str(root / room) for room in ROOMS]},
        )
    # What Ray raises here is of many kinds, its own and of others.
    except Exception as error:
        why = " ".join(str(error).split())[:500]
        raise EngineError(
            f"The Ray cluster at {address} does not take this process: {why}", mend=MEND
        ) from None


def places() -> Places:
    """What the cluster offers now. EngineError when no node has a processor to offer."""
    import ray

    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in every if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if gpus:
        with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
        share = min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpu)
        return Places(gpus, max(0, min(16, share)), 1)
    if not cores:
        raise EngineError(
            "The Ray cluster has no node with a processor to work on.",
            mend=f"Start workers: ray start --address=HEAD:PORT. {MEND}",
        )
    each = min(MOST_CORES, *cores)
    return Places(sum(count // each for count in cores), each, 0)


def here() -> Any:
    """A scheduling strategy: on this process's own node, where its files are."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _knock(address: str) -> None:
    """Ray tries for a minute and tells little; whether somebody is there shows at once."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise EngineError(
            f"The Ray cluster at {address} does not answer ({error}).",
            mend=f"Start its head, or mend TIEBREAK_RAY_ADDRESS. {MEND}",
        ) from None
