"""Promotions while many people ask: does each answer hold one version's numbers, and which?

    python -m benchmarks.promotions [--promotions 20] [--predictions 10000] [--callers 20]
        [--tasks 5] [--workers 2] [--threads 8]

A real server with versions that say different things of each task. What each of them says is asked
in this process first; every answer of the server is held to it, number by number. *stale_seconds*
is the longest time after a promotion at which a request was sent that an older version answered.
Exits with 1 on any error, wrong answer, or a version that is stale for more than 2 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.versions import promote
from benchmarks.report import report, say
from tests.backend.predict_load import Callers, expected_answers
from tests.backend.served_project import ServedProject, ServerProcess

VERSIONS = range(1, 8)
LONGEST_STALE = 2.0


def stale_seconds(
    asked: Sequence[tuple[float, str]], promoted: Sequence[tuple[float, str]]
) -> float:
    """The longest time after a promotion at which a request was sent that an earlier one answered.

    ``promoted`` are times, ascending, and names; a name may come back.
    """
    longest = 0.0
    for began, version in asked:
        served = [at for at, name in promoted if name == version and at <= began]
        since = [at for at, _ in promoted if at <= began and (not served or at > served[-1])]
        # An answer by a version of after the request is fresh.
        if since and not any(name == version and at > began for at, name in promoted):
            longest = max(longest, began - since[0])
    return longest


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--promotions", type=int, default=20)
    parser.add_argument("--predictions", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8)
    given = parser.parse_args()
    env = {"TIEBREAK_WORKERS": str(given.workers), "TIEBREAK_THREADS": str(given.threads)}
    tasks = range(1, given.tasks + 1)
    with tempfile.TemporaryDirectory() as folder:
        project = ServedProject(Path(folder), tasks=given.tasks, versions=len(VERSIONS))
        expected = expected_answers(project, VERSIONS, tasks)
        server = ServerProcess(project, env).start()
        promoted: list[tuple[float, str]] = []
        began = time.monotonic()
        try:
            with Callers(
                server, project.body(tasks), expected, count=given.callers, most=given.predictions
            ) as callers:
                step = given.predictions // (given.promotions + 1)
                for turn in range(given.promotions):
                    while callers.done < step * (turn + 1):
                        time.sleep(0.005)
                    number = VERSIONS[turn % len(VERSIONS)]
                    promote(project.store, project.settings, 1, number)
                    promoted.append((time.time(), f"v{number}"))
                    say(f"v{number} promoted after {callers.done} predictions")
                callers.join()
        finally:
            server.close()
            project.close()
    outcome = callers.outcome
    found = {
        "promotions": len(promoted),
        "predictions": outcome.answered,
        "failed": len(outcome.failures) + outcome.refused,
        "wrong": len(outcome.wrong),
        "versions_seen": len({version for _, version in outcome.asked}),
        "stale_seconds": round(stale_seconds(outcome.asked, promoted), 3),
        "requests_per_second": round(outcome.answered / (time.monotonic() - began), 1),
        "milliseconds": {
            f"p{share}": round(1000 * float(np.percentile(outcome.seconds, share)), 1)
            for share in (50, 95, 99)
        },
        "workers": given.workers,
        "threads": given.threads,
        "callers": given.callers,
    }
    report(found)
    bad = found["failed"] or found["wrong"] or found["stale_seconds"] > LONGEST_STALE
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
