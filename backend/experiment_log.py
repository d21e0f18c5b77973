"""Every trained version as a run in MLflow, where ``MLFLOW_TRACKING_URI`` is set.

Versions are sent in the background, one after the other, once they are committed here: a training
never waits for MLflow and never fails with it. What cannot be sent is given up and said once in the
log; it is still in the version itself. A trainer that stops waits for MLflow a moment, not longer.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backend.settings import Settings
from backend.tables import version_name
from model.artifact import Artifact
from model.gate import GateDecision
from model.packages import pip_install

log = logging.getLogger(__name__)

# One answer of MLflow's server may take this long, and is asked for once more.
HTTP_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
WAITING = 100
BATCH = 500
LONGEST_VALUE = 5000
MEND = "Check MLFLOW_TRACKING_URI and that MLflow runs there, or unset it; training goes on."
MEND_MISSING = f"Install it with {pip_install('mlflow-skinny')}, or unset MLFLOW_TRACKING_URI."


@dataclass(frozen=True)
class Run:
    """What MLflow is told of a version."""

    uri: str
    experiment: str
    name: str
    parameters: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]


def log_version(
    settings: Settings,
    project_id: int,
    title: str,
    artifact: Artifact,
    metrics: Mapping[str, Any],
    gate: GateDecision,
) -> None:
    """Send a version to MLflow in the background, where the settings name one."""
    if not settings.mlflow_tracking_uri:
        return
    manifest = artifact.manifest
    parameters = {name: str(manifest[name]) for name in ("labels", "seed", "labels_digest")}
    _SENDER.add(
        Run(
            settings.mlflow_tracking_uri,
            f"tiebreak/{title or project_id}",
            version_name(artifact.version),
            parameters | {"backbone": artifact.backbone, "strategy": str(manifest["strategy"])},
            {
                "tiebreak.project": str(project_id),
                "tiebreak.version": version_name(artifact.version),
                "tiebreak.kept": str(gate.promote).lower(),
                "tiebreak.reason": gate.reason[:LONGEST_VALUE],
            },
            dict(headline_numbers(metrics)),
        )
    )


def flush(seconds: float) -> bool:
    """Wait until all versions are sent or given up; false when that takes longer."""
    return _SENDER.flush(seconds)


def headline_numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values for MLflow: ``control/held_out/accuracy``, with ``_low`` and ``_high``.

    Only what can be told, and only characters that MLflow takes in a name.
    """
    for control, samples in metrics["measures"].items():
        for sample, found in samples.items():
            place = f"{re.sub(r'[^0-9A-Za-z_. -]', '_', control)}/{sample}"
            yield f"{place}/labels", float(found["n"])
            for name, number in found.items():
                if isinstance(number, dict) and number["value"] is not None:
                    yield f"{place}/{name}", number["value"]
                    yield f"{place}/{name}_low", number["low"]
                    yield f"{place}/{name}_high", number["high"]
    for name, value in metrics["gate"].items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield f"gate/{name}", float(value)
    yield "seconds", float(metrics["seconds"])


class _Sender:
    """Sends runs from a thread of its own, which starts with the first."""

    def __init__(self) -> None:
        self._runs: queue.Queue[Run] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._warned = False

    def add(self, run: Run) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
                self._thread.start()
        try:
            self._runs.put_nowait(run)
        except queue.Full:
            self._warn(f"{WAITING} versions wait to be sent already", MEND)

    def flush(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._runs.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self._runs.unfinished_tasks

    def _work(self) -> None:
        for name, value in HTTP_LIMITS.items():
            os.environ.setdefault(name, value)
        while True:
            run = self._runs.get()
            try:
                _send(run)
                self._warned = False
            except ImportError:
                self._warn("the package mlflow-skinny is not installed", MEND_MISSING)
            # Whatever MLflow, its server or its database raise, it is no business of a training.
            except Exception as error:
                told = next(iter(str(error).splitlines()), "")
                self._warn(f"{type(error).__name__}: {told:.300}", MEND)
            finally:
                self._runs.task_done()

    def _warn(self, why: str, mend: str) -> None:
        if not self._warned:
            log.warning("MLflow does not get this version's metrics: %s. %s", why, mend)
        self._warned = True


def _send(run: Run) -> None:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient(run.uri)
    known = client.get_experiment_by_name(run.experiment)
    experiment = known.experiment_id if known else client.create_experiment(run.experiment)
    made = client.create_run(experiment, run_name=run.name, tags=run.tags)
    now = int(1000 * time.time())
    metrics = [Metric(name, value, now, 0) for name, value in run.metrics.items()]
    parameters = [Param(name, value) for name, value in run.parameters.items()]
    client.log_batch(made.info.run_id, metrics[:BATCH], parameters)
    for start in range(BATCH, len(metrics), BATCH):
        client.log_batch(made.info.run_id, metrics[start : start + BATCH])
    client.set_terminated(made.info.run_id)


_SENDER = _Sender()
