"""How many labels until the rest of the digits is predicted right: the queue against random.

    python -m benchmarks.digits_queue [--labels 300] [--aim 0.9]

Two projects of all 1,797 digits in a real Label Studio, each with Tiebreak behind it. In one a
person labels what “Label All Tasks” hands out, in the other tasks drawn at random. After every ten
labels and the training that follows, ``/predict`` is asked about every task that is not labelled.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from typing import Any

from backend.demo import DIGIT_COUNT
from benchmarks.loop import Loop, running_loop
from benchmarks.report import report, say
from tests.e2e.digits import DIGIT_CONFIG, all_tasks
from tests.e2e.label_studio_person import Json

BATCH = 10
Picker = Callable[[int], list[Json]]


def accuracy_on_rest(loop: Loop, project: int, rest: list[Json]) -> float:
    """Share of the tasks whose predicted choice is right."""
    body = {
        "tasks": [{"id": task["id"], "data": task["data"]} for task in rest],
        "project": f"{project}.0",
        "label_config": DIGIT_CONFIG,
    }
    results = loop.tiebreak.post("/predict", body).raise_for_status().json()["results"]
    right, answered = 0, 0
    for task, entry in zip(rest, results, strict=True):
        choices = [c for item in entry["result"] for c in item["value"]["choices"]]
        # Of images of the audit set nothing is said.
        answered += bool(choices)
        right += choices == [loop.digits.truth(task)]
    return right / max(answered, 1)


def follow(loop: Loop, title: str, labels: int, aim: float, seed: int | None) -> dict[str, Any]:
    """Label one project, by the queue or (with a seed) at random; its learning curve."""
    admin, digits = loop.label_studio.admin, loop.digits
    project = digits.create_project(title)
    for start in range(0, DIGIT_COUNT, 600):
        digits.add_tasks(project, range(start, min(start + 600, DIGIT_COUNT)))
    loop.tiebreak.connect(project)
    loop.tiebreak.settle(project, 900)
    tasks = {int(task["id"]): task for task in all_tasks(admin, project)}
    order = sorted(tasks)
    random.Random(seed).shuffle(order)
    done: set[int] = set()
    curve: list[tuple[int, float]] = []
    reached = None
    while len(done) < labels and reached is None:
        if seed is None:
            done |= set(digits.label_next(admin, project, BATCH))
        else:
            for task_id in order[len(done) : len(done) + BATCH]:
                admin.submit(task_id, label=digits.truth(tasks[task_id]))
                done.add(task_id)
        settled_with(loop, project, len(done))
        rest = [task for task_id, task in tasks.items() if task_id not in done]
        accuracy = accuracy_on_rest(loop, project, rest)
        curve.append((len(done), round(accuracy, 4)))
        say(f"{title}: {len(done)} labels, {accuracy:.3f} of the rest right")
        if accuracy >= aim:
            reached = len(done)
    return {"labels_to_aim": reached, "curve": curve}


def settled_with(loop: Loop, project: int, labels: int) -> None:
    """Wait until all these labels were learned, or refused, or are too few to learn from."""

    def learned(status: Json) -> bool:
        last = status["last_version"]
        return bool(
            status["labelled"] == labels
            and status["served"] == status["order"]
            and not status["activity"]
            and ((last and last["labels"] == labels) or "two different" in status["waiting"])
        )

    loop.tiebreak.wait(project, learned, 180)


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--labels", type=int, default=300, help="stop here at the latest")
    arguments.add_argument("--aim", type=float, default=0.9, help="accuracy to reach")
    arguments.add_argument("--strategy", default="margin")
    given = arguments.parse_args()
    with running_loop(fast_import=True, TIEBREAK_STRATEGY=given.strategy) as loop:
        queue = follow(loop, "By the queue", given.labels, given.aim, None)
        chance = [
            follow(loop, f"At random {seed}", given.labels, given.aim, seed) for seed in (1, 2, 3)
        ]
        report({"aim": given.aim, "strategy": given.strategy, "queue": queue, "random": chance})


if __name__ == "__main__":
    main()
