"""How fast webhooks are answered while a fine-tune runs, and whether each one leaves its hint.

    python -m benchmarks.webhook_load [--rate 50] [--seconds 60] [--workers 2] [--threads 8]

A project of 102 pictures in a real Label Studio, 72 of them labelled, with a server and a trainer.
Once the fine-tune's child learns, ``rate`` webhooks are sent each second, at moments that are fixed
beforehand: one that is answered late delays no other, and its waiting counts. A trigger in the
database counts the hints that were written. Exits with 1 where a webhook was not answered with 200
or left no hint, where the 99th percentile is 200 ms or more, or where the fine-tune had ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loop import running_loop
from benchmarks.report import report, say
from tests.callers import WEBHOOK_SECRET
from tests.e2e.digits import all_tasks
from tests.e2e.finetune_killing import ENDED, FINE_TUNES, ask
from tests.e2e.stripes import Stripes
from tests.e2e.tiebreak_processes import Json, TiebreakProcesses

CALLERS = 32
LONGEST_P99 = 0.2
HEADERS = {"Content-Type": "application/json", "X-Tiebreak-Secret": WEBHOOK_SECRET}
COUNT = """
CREATE TABLE counted_hints (id INTEGER PRIMARY KEY);
CREATE TRIGGER count_hints AFTER INSERT ON hints WHEN NEW.action = 'ANNOTATION_UPDATED'
BEGIN INSERT INTO counted_hints (id) VALUES (NULL); END;
"""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8)
    given = parser.parse_args()
    settings = {
        **FINE_TUNES,
        "TIEBREAK_INPUT_SIZE": "160",
        "TIEBREAK_FINETUNE_EPOCHS": "60",
        "TIEBREAK_FINETUNE_NICE": "10",
        "TIEBREAK_WORKERS": str(given.workers),
        "TIEBREAK_THREADS": str(given.threads),
        "TIEBREAK_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        running_loop(fast_import=True, **settings) as loop,
    ):
        studio, tiebreak = loop.label_studio, loop.tiebreak
        stripes = Stripes(studio, Path(folder))
        project = stripes.create_project("Stripes")
        stripes.teach(tiebreak, project, labelled=72, waiting=30, seconds=300)
        tasks = all_tasks(studio.admin, project)
        ask(tiebreak, project)
        tiebreak.wait(project, _learns, 300)
        say(f"the fine-tune learns; {given.rate} webhooks a second begin")
        with _counted(tiebreak.data / "tiebreak.db") as count:
            found = _send(tiebreak, project, tasks, given.rate, given.seconds)
            found["hints"] = count()
        state = tiebreak.status(project)["finetune"]
        found |= {"fine_tune": state["state"], "epoch": state["progress"].get("epoch")}
    report(found | {"workers": given.workers, "threads": given.threads})
    good = found["answered"] == found["sent"] == found["hints"] and state["state"] not in ENDED
    sys.exit(0 if good and found["seconds"]["p99"] < LONGEST_P99 else 1)


def _learns(status: Json) -> bool:
    found = status["finetune"]
    return bool(found and (found["progress"].get("epoch") or 0) >= 1)


@contextlib.contextmanager
def _counted(path: Path) -> Iterator[Any]:
    with contextlib.closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
        database.executescript(COUNT)
        yield lambda: database.execute("SELECT COUNT(*) FROM counted_hints").fetchone()[0]


def _send(
    tiebreak: TiebreakProcesses, project: int, tasks: list[Json], rate: int, seconds: int
) -> dict[str, Any]:
    """Send webhooks at fixed moments, each over a connection of its own as Label Studio does."""
    moments = np.arange(rate * seconds) / rate
    began = time.monotonic() + 1
    statuses: Counter[str] = Counter()

    def send(number: int) -> float:
        due = began + float(moments[number])
        time.sleep(max(0.0, due - time.monotonic()))
        body = {
            "action": "ANNOTATION_UPDATED",
            "project": {"id": project},
            "task": {"id": tasks[number % len(tasks)]["id"]},
        }
        # The least that a caller can do: what a richer client computes would count as waiting.
        connection = HTTPConnection("127.0.0.1", tiebreak.port, timeout=30)
        try:
            connection.request("POST", "/webhook", json.dumps(body), HEADERS)
            answer = connection.getresponse()
            answer.read()
            statuses[str(answer.status)] += 1
        except OSError as error:
            statuses[type(error).__name__] += 1
        finally:
            connection.close()
        return time.monotonic() - due

    with ThreadPoolExecutor(CALLERS) as pool:
        took = list(pool.map(send, range(len(moments))))
    return {
        "sent": len(moments),
        "answered": statuses["200"],
        "statuses": dict(statuses),
        "seconds": {
            **{f"p{share}": round(float(np.percentile(took, share)), 4) for share in (50, 95, 99)},
            "slowest": round(max(took), 4),
        },
    }


if __name__ == "__main__":
    main()
