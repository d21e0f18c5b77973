"""How far down the queue people are served who label one project at once, and what they get twice.

    python -m benchmarks.annotators [--annotators 8] [--submits 400] [--look 1,5]
        [--plain | --postgres] [--tab] [--overlap 2] [--retrain] [--json]

A real Label Studio whose people ask for the next task, look at it and submit it, all at once. The
order is a made-up one of 1,000 tasks or, with ``--retrain``, that of a Tiebreak which learns the
digits from these people meanwhile and orders the rest anew. ``--postgres`` wants Debian's
``postgresql`` package; a cluster of its own runs in a temporary folder.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.connect import QUEUE_TITLE
from backend.demo import DIGIT_COUNT
from backend.local_label_studio import one_queue
from benchmarks.loop import FAST_IMPORT, running_loop
from benchmarks.report import report, say
from tests.e2e.digits import Digits
from tests.e2e.label_studio_person import Json, Person
from tests.e2e.label_studio_server import LabelStudioServer, prepare_template
from tests.e2e.ordered_project import OrderedProject
from tests.e2e.team import Order, Record, Team, places, served_too_often
from tests.postgres import PostgresServer
from tests.tiebreak_process import REPOSITORY

RETRAIN = {
    "TIEBREAK_INPUT_SIZE": "96",
    "TIEBREAK_GATE_MARGIN": "1",
    "TIEBREAK_MAX_WAIT_SECONDS": "5",
}


@dataclass(frozen=True)
class Labelled:
    """What a team did, and the score of every task by each prediction version."""

    record: Record
    orders: Mapping[str, Order]
    extra: int
    """Annotations beyond those that the tasks want, as Label Studio has them."""
    seconds: float


@contextmanager
def studio_env(given: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Label Studio's environment for its database, which runs meanwhile."""
    if not given.postgres:
        yield {} if given.plain else one_queue()
        return
    database = PostgresServer()
    try:
        yield database.start().env
    finally:
        database.close()


def fixed_order(given: argparse.Namespace, env: Mapping[str, str]) -> Labelled:
    """Label a project whose order stays as it is."""
    template = None if given.postgres else prepare_template(REPOSITORY / ".cache")
    with tempfile.TemporaryDirectory() as folder:
        studio = LabelStudioServer(Path(folder), template, {FAST_IMPORT: "true", **env})
        try:
            studio.start()
            fields = {"maximum_annotations": given.overlap}
            project = OrderedProject.make(studio, "Team", given.tasks, **fields)
            order = project.reorder("v1", given.seed)
            return label(given, studio, project.number, None, {"v1": order})
        finally:
            studio.close()


def retrained_order(given: argparse.Namespace, env: Mapping[str, str]) -> Labelled:
    """Label digits while Tiebreak learns them."""
    with running_loop(fast_import=True, studio_env=env, **RETRAIN) as loop:
        admin = loop.label_studio.admin
        project = loop.digits.create_project("Team")
        admin.patch(f"/api/projects/{project}/", {"maximum_annotations": given.overlap})
        digits = range(min(given.tasks, DIGIT_COUNT))
        for start in range(0, len(digits), 600):
            loop.digits.add_tasks(project, digits[start : start + 600])
        loop.tiebreak.connect(project)
        loop.tiebreak.settle(project, 900)
        return label(given, loop.label_studio, project, loop.digits, None)


def label(
    given: argparse.Namespace,
    studio: LabelStudioServer,
    project: int,
    digits: Digits | None,
    orders: Mapping[str, Order] | None,
) -> Labelled:
    """Let the team label; where ``orders`` is None, Label Studio is asked for them afterwards."""
    views = studio.admin.get("/api/dm/views/", project=project)
    tab = next(view["data"] for view in views if view["data"]["title"] == QUEUE_TITLE)

    def ask(person: Person) -> Json | None:
        return person.next_as_displayed(project, tab) if given.tab else person.next_task(project)

    people = [studio.create_user(f"p{n}@tiebreak.example") for n in range(given.annotators)]
    team = Team(people, ask, digits.truth if digits else lambda task: "cat")
    say(f"{given.annotators} people label")
    started = time.monotonic()
    record = team.label(given.submits, given.look, given.seed)
    seconds = time.monotonic() - started
    orders = orders or all_orders(studio.admin, project)
    return Labelled(
        record, orders, extra_annotations(studio.admin, project, given.overlap), seconds
    )


def all_orders(admin: Person, project: int) -> dict[str, dict[int, float]]:
    """Version → task → score, as Label Studio holds them."""
    found: dict[str, dict[int, float]] = {}
    for prediction in admin.get("/api/predictions/", project=project):
        order = found.setdefault(prediction["model_version"], {})
        order[int(prediction["task"])] = float(prediction["score"])
    return found


def extra_annotations(admin: Person, project: int, overlap: int) -> int:
    """How many annotations tasks have beyond the number that they want."""
    exported = admin.get(f"/api/projects/{project}/export", exportType="JSON")
    return sum(max(0, len(task["annotations"]) - overlap) for task in exported)


def summary(given: argparse.Namespace, done: Labelled) -> dict[str, Any]:
    """What is reported."""
    servings = done.record.servings
    waits = [serving.served - serving.asked for serving in servings]
    return {
        "annotators": given.annotators,
        "submits": len(servings),
        "look_seconds": given.look,
        "database": "PostgreSQL" if given.postgres else "SQLite",
        "turns": not (given.postgres or given.plain),
        "button": "Label Tasks As Displayed" if given.tab else "Label All Tasks",
        "overlap": given.overlap,
        "place": spread(places(servings, done.orders)),
        "duplicates_served": served_too_often(servings),
        "duplicates_submitted": done.extra,
        "versions": len({serving.version for serving in servings}),
        "wait_seconds": {k: round(v, 2) for k, v in spread(waits).items()},
        "seconds": round(done.seconds, 1),
        "ways": dict(Counter(serving.way for serving in servings)),
        "refused_requests": len(done.record.errors),
        "turned_away": done.record.turned_away,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile (nearest rank) and largest."""
    ordered = sorted(values)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return {"median": statistics.median(ordered), "p95": p95, "max": ordered[-1]}


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--annotators", type=int, default=8)
    arguments.add_argument("--submits", type=int, default=400)
    arguments.add_argument("--tasks", type=int, default=1000)
    arguments.add_argument(
        "--look", type=seconds_range, default=(1, 5), help="shortest and longest look, in seconds"
    )
    arguments.add_argument("--overlap", type=int, default=1, help="people who label each task")
    arguments.add_argument("--tab", action="store_true", help="press Label Tasks As Displayed")
    arguments.add_argument("--retrain", action="store_true", help="with Tiebreak, on digits")
    database = arguments.add_mutually_exclusive_group()
    database.add_argument("--postgres", action="store_true")
    database.add_argument("--plain", action="store_true", help="SQLite, and nobody takes turns")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--json", action="store_true", help="one JSON object")
    given = arguments.parse_args()
    with studio_env(given) as env:
        done = (retrained_order if given.retrain else fixed_order)(given, env)
    found = summary(given, done)
    if given.json:
        report(found)
    else:
        for name, value in found.items():
            print(f"{name:>20}  {value}")


def seconds_range(text: str) -> tuple[float, float]:
    """``1,5`` → (1.0, 5.0)."""
    low, high = map(float, text.split(","))
    return low, high


if __name__ == "__main__":
    main()
