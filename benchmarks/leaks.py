"""Memory and open files of a real server and a real trainer over many predictions and trainings.

    python -m benchmarks.leaks [--predictions 10000] [--trainings 100] [--json]

A Label Studio's stand-in has 120 pictures, 60 of them labelled. After a warm-up ``/predict`` is
called for five tasks, four calls at a time, and every second call names a picture that nobody has
seen: it is fetched, decoded and embedded. Then a label is changed and a training asked for,
again and again; every version is served. Memory is the resident memory of a process with all that
it started, the ones that decode included. Exits with 1 where either grows by 100 MB or more, or
holds more files open at the end than after the warm-up.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.processes import Use, use_of
from benchmarks.report import report, say
from model.backbones import BACKBONES
from model.weights import find_weights
from tests.backend.hostile_image import noise
from tests.backend.loop_project import CLASSES, COLOURS, config
from tests.backend.small_label_studio import SmallLabelStudio
from tests.e2e.tiebreak_processes import SERVER, TRAINER, TiebreakProcesses

TASKS, LABELLED = 120, 60
AT_ONCE, PER_CALL = 4, 5
WARM_CALLS, WARM_TRAININGS = 400, 10
PATIENCE = 300.0
MOST_GROWN = 100_000_000
SETTINGS = {
    "TIEBREAK_TRANSFER": "features",
    "TIEBREAK_GATE_MARGIN": "1",
    "TIEBREAK_AUDIT_SHARE": "0",
    "TIEBREAK_MIN_NEW_LABELS": "1",
    "TIEBREAK_LOG_LEVEL": "warning",
}


class Project:
    """A project of coloured pictures, with a server and a trainer."""

    def __init__(self, studio: SmallLabelStudio, tiebreak: TiebreakProcesses) -> None:
        self.studio, self.tiebreak = studio, tiebreak
        studio.project["label_config"] = config(*CLASSES)
        for task in range(1, TASKS + 1):
            studio.add_picture(task, self._picture(task))
        for task in range(1, LABELLED + 1):
            studio.annotate(task, label=[CLASSES[task % 3]])
        tiebreak.start()
        schema = {"project": "1.1", "schema": config(*CLASSES)}
        tiebreak.post("/setup", schema).raise_for_status()
        self.version = "v0"
        self._wait_for_another()

    def predict(self, number: int) -> None:
        """One call of ``/predict``; every second one names a new picture."""
        tasks = [(number * PER_CALL + place) % TASKS + 1 for place in range(PER_CALL)]
        if number % 2 == 0:
            new = 1_000_000 + number
            self.studio.pictures[new] = self.studio.pictures[tasks[0]] + b"%d" % number
            tasks[0] = new
        body = {
            "tasks": [{"id": task, "data": {"image": f"/data/{task}"}} for task in tasks],
            "project": "1.1",
            "label_config": config(*CLASSES),
        }
        answer = self.tiebreak.post("/predict", body)
        answer.raise_for_status()
        assert all(found["result"] for found in answer.json()["results"]), answer.text
        self.studio.pictures.pop(1_000_000 + number, None)

    def train(self, number: int) -> None:
        """A label changes, a training is asked for, and its version serves."""
        task = number % LABELLED + 1
        self.studio.annotate(task, label=[CLASSES[(task + number // LABELLED + 1) % 3]])
        self.tiebreak.post("/train", {"project": 1}).raise_for_status()
        self._wait_for_another()

    def _wait_for_another(self) -> None:
        before = self.version
        self.version = self.tiebreak.wait(
            1, lambda status: status["version"] if status["version"] != before else None, PATIENCE
        )

    @staticmethod
    def _picture(task: int) -> Image.Image:
        plain = Image.new("RGB", (64, 48), COLOURS[CLASSES[task % 3]])
        return Image.blend(plain, noise(64, 48, seed=task), 0.4)


@contextlib.contextmanager
def running_project() -> Iterator[Project]:
    """It, until the block ends."""
    # Stopped from outside, Python would leave the children running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cache = Path(__file__).parents[1] / ".cache"
    weights = find_weights(
        BACKBONES["mobilenet_v2"].pretrained, weights_dir=None, cache_dir=cache / "weights"
    )
    with tempfile.TemporaryDirectory() as folder, SmallLabelStudio() as studio:
        threading.Thread(target=studio.serve_forever, daemon=True).start()
        studio.token = "0" * 40  # type: ignore[attr-defined]
        made: Any = studio
        tiebreak = TiebreakProcesses(Path(folder), made, weights.parent, SETTINGS)
        tiebreak._client.timeout = httpx.Timeout(PATIENCE)
        try:
            yield Project(studio, tiebreak)
        finally:
            tiebreak.close()
            studio.shutdown()


def predictions(project: Project, count: int) -> dict[str, Any]:
    """The server's memory and files over ``count`` predictions."""
    calls = WARM_CALLS + count // PER_CALL
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(project.predict, range(WARM_CALLS)))
        before = _settled_use(project, SERVER)
        started, done = time.monotonic(), WARM_CALLS
        while done < calls:
            until = min(done + 200, calls)
            list(threads.map(project.predict, range(done, until)))
            done = until
            made = (done - WARM_CALLS) * PER_CALL
            say(f"{made} predictions: {use_of(project.tiebreak.pid(SERVER))}")
        seconds = round(time.monotonic() - started)
    return grown(before, _settled_use(project, SERVER)) | {"count": count, "seconds": seconds}


def trainings(project: Project, count: int) -> dict[str, Any]:
    """The trainer's memory and files over ``count`` trainings, and what the server's did."""
    for number in range(WARM_TRAININGS):
        project.train(number)
    before, server = (_settled_use(project, name) for name in (TRAINER, SERVER))
    started = time.monotonic()
    for number in range(WARM_TRAININGS, WARM_TRAININGS + count):
        project.train(number)
        if number % 10 == 9:
            say(f"{number + 1 - WARM_TRAININGS}: {use_of(project.tiebreak.pid(TRAINER))}")
    seconds = round(time.monotonic() - started)
    found = grown(before, _settled_use(project, TRAINER)) | {"count": count, "seconds": seconds}
    return found | {"server": grown(server, _settled_use(project, SERVER))}


def _settled_use(project: Project, name: str) -> Use:
    """The least of a few looks: what is open for a request or a step is none of it."""
    looks = []
    for _ in range(12):
        time.sleep(1)
        looks.append(use_of(project.tiebreak.pid(name)))
    return Use(
        looks[-1].bytes,
        min(look.descriptors for look in looks),
        min(look.processes for look in looks),
    )


def grown(before: Use, after: Use) -> dict[str, Any]:
    """How much more there is of everything."""
    return {
        "memory_mb": [round(before.bytes / 1e6), round(after.bytes / 1e6)],
        "grown_mb": round((after.bytes - before.bytes) / 1e6, 1),
        "descriptors": [before.descriptors, after.descriptors],
        "processes": [before.processes, after.processes],
    }


def sound(found: dict[str, Any]) -> bool:
    """Whether it grew by less than allowed, and holds no more files open."""
    few = found["descriptors"][1] <= found["descriptors"][0]
    return few and found["grown_mb"] * 1e6 < MOST_GROWN


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=10_000)
    parser.add_argument("--trainings", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    wanted = parser.parse_args()
    with running_project() as project:
        server = predictions(project, wanted.predictions)
        say(str(server))
        trainer = trainings(project, wanted.trainings)
        say(str(trainer))
    report({"predictions": server, "trainings": trainer})
    sys.exit(0 if all(map(sound, (server, trainer, trainer["server"]))) else 1)


if __name__ == "__main__":
    main()
