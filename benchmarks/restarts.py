"""Rolling restarts and stops of the server while many people ask: which requests fail?

    python -m benchmarks.restarts [--rounds 5] [--callers 20] [--workers 2] [--threads 8]

Half of the callers make a connection for each request, as Label Studio does, half keep theirs. In
each round all workers are renewed (SIGHUP), and then the server is stopped (SIGTERM) and started
again. *failed* are requests whose connection was taken and that got no right answer; *refused* are
calls that no server was there for, which can only come of a stop. Exits with 1 where a request
failed, or one was refused during a rolling restart.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report, say
from tests.backend.predict_load import Answer, Callers, Outcome, expected_answers
from tests.backend.served_project import ServedProject, ServerProcess

VERSIONS, TASKS = range(1, 3), range(1, 6)
WARM, AFTER = 200, 50


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8)
    given = parser.parse_args()
    env = {"TIEBREAK_WORKERS": str(given.workers), "TIEBREAK_THREADS": str(given.threads)}
    renewed, stopped = Outcome(), Outcome()
    with tempfile.TemporaryDirectory() as folder:
        project = ServedProject(Path(folder), tasks=len(TASKS), versions=len(VERSIONS))
        expected = expected_answers(project, VERSIONS, TASKS)
        server = ServerProcess(project, env).start()
        try:
            for turn in range(given.rounds):
                _join(renewed, _round(server, project, expected, given.callers, stop=False))
                _join(stopped, _round(server, project, expected, given.callers, stop=True))
                server.start()
                say(f"round {turn + 1}: {renewed.answered + stopped.answered} answers")
        finally:
            server.close()
            project.close()
    report({"rounds": given.rounds, "renewed": _told(renewed), "stopped": _told(stopped)})
    failed = renewed.failures + renewed.wrong + stopped.failures + stopped.wrong
    for line in failed[:10]:
        say(line)
    sys.exit(1 if failed or renewed.refused else 0)


def _round(
    server: ServerProcess,
    project: ServedProject,
    expected: dict[str, Answer],
    count: int,
    *,
    stop: bool,
) -> list[Outcome]:
    body = project.body(TASKS)
    with (
        Callers(server, body, expected, count=count // 2, fresh=True) as once,
        Callers(server, body, expected, count=count - count // 2) as kept,
    ):
        _wait(once, kept, WARM)
        if stop:
            server.stop()
        else:
            server.renew()
        _wait(once, kept, once.done + kept.done + AFTER)
    return [once.outcome, kept.outcome]


def _wait(once: Callers, kept: Callers, count: int) -> None:
    while once.done + kept.done < count:
        time.sleep(0.01)


def _join(whole: Outcome, parts: list[Outcome]) -> None:
    for part in parts:
        whole.answered += part.answered
        whole.refused += part.refused
        whole.failures += part.failures
        whole.wrong += part.wrong
        whole.seconds += part.seconds


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "answered": outcome.answered,
        "failed": len(outcome.failures),
        "wrong": len(outcome.wrong),
        "refused": outcome.refused,
        "slowest_seconds": round(max(outcome.seconds), 2),
        "p99_seconds": round(float(np.percentile(outcome.seconds, 99)), 3),
    }


if __name__ == "__main__":
    main()
