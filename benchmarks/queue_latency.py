"""How long from the submit that starts a retraining until the next task comes by the new order.

    python -m benchmarks.queue_latency [--tasks 10000] [--repeats 5] [--slow-import]

A person labels nine tasks, Tiebreak settles, and the tenth submit starts the clock. It stops when
the next task that Label Studio hands out is the least certain one by the new version. The gate's
margin is 1, so that every training promotes a version.

The tasks show digits, and their embeddings are made up: a project of any size is there in a moment,
and everything after the embedding is the real thing.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from backend.demo import DIGIT_COUNT
from backend.store import Store
from benchmarks.loop import Loop, running_loop
from benchmarks.report import report, say
from benchmarks.synthetic import write_embeddings
from tests.e2e.tiebreak_processes import TRAINER, wait_until

WIDTH = 1280
STEP = re.compile(r"^(\S+ \S+) DEBUG backend\.reconciler.*: project \d+: (\w+) took ([\d.]+) s$")
CALL = re.compile(r"^(\S+ \S+) DEBUG backend\.labelstudio_http.*: (\w+) (\S+): \d+ in ([\d.]+) s$")


def add_tasks(loop: Loop, project: int, count: int) -> None:
    """Tasks of the digits, each at an address of its own, with made-up embeddings."""
    log = loop.tiebreak.log
    found = wait_until(lambda: re.search(r"the backbone is (\S+)", log(TRAINER)), 120)
    numbers = [n % DIGIT_COUNT for n in range(count)]
    uris = [f"{loop.digits.uri(n)}&copy={i // DIGIT_COUNT}" for i, n in enumerate(numbers)]
    tasks = [{"data": {"image": uri}} for uri in uris]
    classes = np.array([int(loop.digits.truth(task)) for task in tasks])
    with closing(Store(f"sqlite:///{loop.tiebreak.data / 'tiebreak.db'}")) as store:
        write_embeddings(store, uris, classes, found[1], WIDTH, np.random.default_rng(1))
    for start in range(0, count, 1000):
        loop.label_studio.admin.import_tasks(project, tasks[start : start + 1000])


def least_certain(loop: Loop, project: int, task: int) -> tuple[str, bool]:
    """The served version, and whether no unlabelled task has a lower score than ``task``."""
    admin = loop.label_studio.admin
    served = str(admin.get(f"/api/projects/{project}")["model_version"])
    scores: dict[int, float] = {}
    for prediction in admin.get("/api/predictions/", project=project):
        if prediction["model_version"] == served:
            scores[int(prediction["task"])] = float(prediction["score"])
    done = {a for a, status in labelled(loop, project).items() if status}
    open_scores = {t: s for t, s in scores.items() if t not in done}
    return served, scores[task] == min(open_scores.values())


def label(loop: Loop, project: int, count: int) -> int:
    """Label what is handed out; how often Label Studio answered with an error meanwhile."""
    errors = 0
    while count:
        try:
            loop.digits.label_next(loop.label_studio.admin, project, 1)
            count -= 1
        except httpx.HTTPStatusError as error:
            errors += 1
            say(f"Label Studio answered {error.response.status_code}")
            time.sleep(1)
    return errors


def next_task(loop: Loop, project: int) -> tuple[Any, int]:
    """The task that Label Studio hands out, and how often it answered with an error instead."""
    errors = 0
    while True:
        try:
            return loop.label_studio.admin.next_task(project), errors
        except httpx.HTTPStatusError as error:
            errors += 1
            say(f"Label Studio answered {error.response.status_code}")
            time.sleep(0.1)


def labelled(loop: Loop, project: int) -> dict[int, bool]:
    """Task → whether Label Studio needs no more annotations for it."""
    found: dict[int, bool] = {}
    page = 1
    while True:
        answer = loop.label_studio.admin.get(
            "/api/tasks", project=project, page=page, page_size=1000, include="id,is_labeled"
        )
        found |= {int(t["id"]): bool(t["is_labeled"]) for t in answer["tasks"]}
        if len(found) >= answer["total"]:
            return found
        page += 1


def profile(log: str, since: float, until: float) -> dict[str, float]:
    """Where the seconds between two moments went, by the trainer's own log: its steps that ended by
    then, how much of each was waiting for Label Studio, and what Label Studio took for the push."""
    found: dict[str, float] = {}
    asked: list[tuple[float, float]] = []

    def add(name: str, seconds: float) -> None:
        found[name] = round(found.get(name, 0.0) + seconds, 3)

    for line in log.splitlines():
        if call := CALL.match(line):
            ended, seconds = _moment(call[1]), float(call[4])
            asked.append((ended, seconds))
            if call[2] in ("POST", "PATCH") and since <= ended <= until:
                add(f"push: {call[2]}", seconds)
        elif step := STEP.match(line):
            ended, seconds = _moment(step[1]), float(step[3])
            inside = [each for each in asked if ended - seconds - 0.002 <= each[0] <= ended]
            asked.clear()
            if since <= ended - seconds + 0.002 and ended <= until:
                add(step[2], seconds)
                if inside:
                    add(f"{step[2]}, of it Label Studio", sum(each[1] for each in inside))
    return found


def worked(pid: int) -> float:
    """Seconds of the processors that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f").timestamp()


def measure(
    loop: Loop, tasks: int, repeats: int
) -> tuple[list[float], list[dict[str, float]], int]:
    """Seconds of each repeat, where they went, and how many requests of people Label Studio
    failed."""
    admin, digits = loop.label_studio.admin, loop.digits
    project = digits.create_project("Latency")
    add_tasks(loop, project, tasks)
    loop.tiebreak.connect(project)
    say(f"{tasks} tasks are looked at")
    loop.tiebreak.settle(project, 900)
    errors = label(loop, project, 40)
    loop.tiebreak.wait(project, lambda s: s["version"] != "v0", 120)
    loop.tiebreak.settle(project, 120)
    taken, profiles = [], []
    for repeat in range(repeats):
        # Bring the count to one below a retraining, whatever it stands at.
        while True:
            waiting = loop.tiebreak.settle(project, 120)["waiting"]
            changed = int(waiting.split()[0]) if waiting[:1].isdigit() else 0
            if changed == 9:
                break
            errors += label(loop, project, 9 - changed)
            time.sleep(2)
        before = admin.get(f"/api/projects/{project}")["model_version"]
        task, failed = next_task(loop, project)
        errors += failed
        assert task is not None
        pid = loop.tiebreak.pid(TRAINER)
        started, moment, before_it = time.perf_counter(), time.time(), worked(pid)
        admin.submit(task["id"], label=digits.truth(task))
        while admin.get(f"/api/projects/{project}")["model_version"] == before:
            # More often would take a core from what is measured.
            time.sleep(0.1)
        served, failed = next_task(loop, project)
        errors += failed
        seconds, until = time.perf_counter() - started, time.time()
        work = worked(pid) - before_it
        assert served is not None
        loop.tiebreak.settle(project, 120)
        version, right = least_certain(loop, project, served["id"])
        assert right, f"task {served['id']} is not the least certain of {version}"
        taken.append(round(seconds, 2))
        found = profile(loop.tiebreak.log(TRAINER), moment, until)
        profiles.append({"trainer's processor seconds": round(work, 2), **found})
        say(f"{repeat + 1}: {seconds:.2f} s until {version} served")
    return taken, profiles, errors


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tasks", type=int, default=10_000)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument(
        "--slow-import",
        action="store_true",
        help="without Label Studio's flag that makes imports of predictions fast",
    )
    given = arguments.parse_args()
    settings = {"TIEBREAK_GATE_MARGIN": "1", "TIEBREAK_LOG_LEVEL": "debug"}
    with running_loop(fast_import=not given.slow_import, **settings) as loop:
        taken, profiles, errors = measure(loop, given.tasks, given.repeats)
        report(
            {
                "tasks": given.tasks,
                "fast_import": not given.slow_import,
                "seconds": taken,
                "median": statistics.median(taken),
                "profiles": profiles,
                "failed_requests_of_people": errors,
            }
        )


if __name__ == "__main__":
    main()
