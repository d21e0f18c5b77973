"""Kills a trainer at random moments of fine-tunes, and asks for predictions all the while."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter
from typing import Any

import httpx

from tests.callers import LOG_IN
from tests.e2e.tiebreak_processes import TRAINER, Json, TiebreakProcesses, wait_until

# Nothing is held out and nothing starts by itself, so that each fine-tune has the same labels.
FINE_TUNES = {
    "TIEBREAK_INPUT_SIZE": "64",
    "TIEBREAK_TRANSFER": "features",
    "TIEBREAK_FINETUNE_EPOCHS": "3",
    "TIEBREAK_FINETUNE_NICE": "0",
    "TIEBREAK_AUGMENTATION": "none",
    "TIEBREAK_AUDIT_SHARE": "0",
    "OMP_NUM_THREADS": "1",
}
ENDED = ("promoted", "refused", "failed", "cancelled")
SECONDS = 600.0


class Asker:
    """Somebody who asks for predictions all the time."""

    def __init__(self, tiebreak: TiebreakProcesses, project: int, tasks: list[Json]) -> None:
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self.seconds: list[float] = []
        self._url, self._body = tiebreak.url, {"tasks": tasks, "project": f"{project}.1"}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Asker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, auth=LOG_IN, timeout=30, trust_env=False) as client:
            while not self._stop.wait(0.1):
                began = time.monotonic()
                try:
                    answer = client.post("/predict", json=self._body).raise_for_status()
                    results = answer.json()["results"]
                    if not all(entry["result"] for entry in results):
                        self.failures.append(f"empty predictions: {results}")
                    self.versions[results[0]["model_version"].partition(".")[0]] += 1
                except (httpx.HTTPError, LookupError) as error:
                    self.failures.append(repr(error))
                self.seconds.append(time.monotonic() - began)


def fine_tune(tiebreak: TiebreakProcesses, project: int) -> tuple[Json, float]:
    """Ask for a fine-tune and leave it alone; what came of it, and how many seconds it took."""
    before, began = _newest(tiebreak, project), time.monotonic()
    ask(tiebreak, project)
    done = _wait_ended(tiebreak, project, before)
    return done, time.monotonic() - began


def kill_and_restart(
    tiebreak: TiebreakProcesses, project: int, tasks: list[Json], *, kills: int, seed: int
) -> dict[str, Any]:
    """Kill the trainer ``kills`` times, each time at a random moment of a fine-tune.

    Where a fine-tune ends in between, the next one is asked for. Returns what an undisturbed one
    came to, what the others came to, and what somebody saw who asked for predictions meanwhile.
    """
    undisturbed, seconds = fine_tune(tiebreak, project)
    tiebreak.settle(project, SECONDS)
    moments = random.Random(seed)
    killed_in: Counter[str] = Counter()
    outcomes = []
    with Asker(tiebreak, project, tasks) as asker:
        while sum(killed_in.values()) < kills:
            before = _newest(tiebreak, project)
            ask(tiebreak, project)
            while sum(killed_in.values()) < kills:
                if _over_before(tiebreak, project, before, moments.uniform(0, seconds)):
                    break
                state = tiebreak.status(project)["finetune"]
                tiebreak.kill(TRAINER)
                killed_in[f"{state['state']} {state['progress'].get('phase', '')}".strip()] += 1
                tiebreak.start_trainer()
            outcomes.append(_wait_ended(tiebreak, project, before))
        tiebreak.settle(project, SECONDS)
    return {
        "undisturbed": undisturbed,
        "undisturbed_seconds": round(seconds, 1),
        "kills": dict(killed_in),
        "outcomes": outcomes,
        "answers": sum(asker.versions.values()),
        "versions": dict(asker.versions),
        "failures": asker.failures,
        "median_answer_seconds": round(statistics.median(asker.seconds), 3),
        "slowest_answer_seconds": round(max(asker.seconds), 3),
    }


def result_of(done: Json) -> tuple[Any, ...]:
    """What must be the same, however often a fine-tune was killed."""
    progress = done["progress"]
    return done["state"], done["backbone"], progress["sha256"], progress["losses"]


def ask(tiebreak: TiebreakProcesses, project: int) -> None:
    """Ask for a fine-tune now."""

    def asked() -> bool:
        done = tiebreak.run("train", str(project), "--finetune", "--no-wait", "--json")
        return done.returncode == 0

    wait_until(asked, 60, tiebreak.tails)


def _newest(tiebreak: TiebreakProcesses, project: int) -> int:
    found = tiebreak.status(project)["finetune"]
    return int(found["id"]) if found else 0


def _over(tiebreak: TiebreakProcesses, project: int, before: int) -> bool:
    found = tiebreak.status(project)["finetune"]
    return bool(found and found["id"] > before and found["state"] in ENDED)


def _over_before(tiebreak: TiebreakProcesses, project: int, before: int, seconds: float) -> bool:
    """Wait so long; whether the fine-tune has ended by then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _over(tiebreak, project, before):
            return True
        time.sleep(0.1)
    return False


def _wait_ended(tiebreak: TiebreakProcesses, project: int, before: int) -> Json:
    def ended(status: Json) -> Json | None:
        found = status["finetune"]
        return found if found and found["id"] > before and found["state"] in ENDED else None

    return tiebreak.wait(project, ended, SECONDS)
