"""Kills server, trainer and fine-tune at random moments while a person labels, and looks on."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sqlite3
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from backend.champion import load_whole
from backend.finetunes import want_fine_tune
from backend.store import Store
from model.errors import ArtifactError
from tests.callers import LOG_IN
from tests.e2e.digits import all_tasks
from tests.e2e.stripes import SLANTS, Stripes
from tests.e2e.tiebreak_processes import (
    SERVER,
    TRAINER,
    Json,
    TiebreakProcesses,
    is_settled,
    wait_until,
)

CHILD = "fine-tune"
SECONDS = 900.0
CHILD_SECONDS = 30.0
FORGETFUL = {"TIEBREAK_POLL_SECONDS": "5", "TIEBREAK_MIN_NEW_LABELS": "3"}


@dataclass
class Killing:
    """One project under fire.

    ``moments`` draws who is killed, and when; ``labelled`` is what the person said, by task.
    """

    tiebreak: TiebreakProcesses
    stripes: Stripes
    project: int
    moments: random.Random
    labelled: dict[int, str] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    at: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {SERVER: [], TRAINER: []})
    failures: list[str] = field(default_factory=list)
    unlabelled: list[Json] = field(default_factory=list)
    asked: list[Json] = field(default_factory=list)

    def prepare(self, labelled: int, waiting: int) -> None:
        """Wait until the pictures that came with labels are learned."""
        self.stripes.teach(
            self.tiebreak, self.project, labelled=labelled, waiting=waiting, seconds=SECONDS
        )
        tasks = all_tasks(self.stripes.label_studio.admin, self.project)
        self.labelled = {int(t["id"]): self.stripes.truth(t) for t in tasks if t["is_labeled"]}
        self.unlabelled = [task for task in tasks if not task["is_labeled"]]
        self.asked = self.unlabelled[-4:]

    def round(self) -> None:
        """A label, a wait of random length, and a kill."""
        self._label()
        self._keep_fine_tuning()
        victim = self.moments.choice((SERVER, TRAINER, TRAINER, CHILD))
        time.sleep(self.moments.uniform(0, 3))
        if victim == CHILD:
            self._kill_child()
        else:
            self._kill(victim)
        self._check()

    def settle(self) -> Json:
        """Wait until nothing is left to do; the status then."""

        def done(status: Json) -> Json | None:
            learned = status["controls"] and status["controls"][0]["labels"] == len(self.labelled)
            rests = not status["finetune"] or status["finetune"]["finished_at"]
            return status if learned and rests and is_settled(status) else None

        return self.tiebreak.wait(self.project, done, SECONDS)

    def report(self) -> dict[str, Any]:
        """What was seen."""
        said = {t: s for t, s in self.labels().items() if s != self.labelled.get(t)}
        lost = [task for task in self.labelled if task not in self.labels()]
        return {
            "kills": sum(self.killed.values()),
            "killed": dict(self.killed),
            "at": dict(self.at.most_common()),
            "labels": len(self.labelled),
            "labels_lost": len(lost),
            "labels_wrong": len(said),
            "versions": len(self._versions()),
            "failures": self.failures,
            "serving_again_seconds": {
                name: {
                    "median": round(statistics.median(found), 2),
                    "slowest": round(max(found), 2),
                }
                for name, found in self.seconds.items()
                if found
            },
        }

    def labels(self) -> dict[int, str]:
        """Task → the label that Tiebreak learns from."""
        rows = self.tiebreak.labels(self.project).items()
        return {task: picked[0] for task, (status, picked) in rows if status == "agreed"}

    def _label(self) -> None:
        """The person labels the next picture, or thinks again about an earlier one."""
        admin = self.stripes.label_studio.admin
        if len(self.unlabelled) > len(self.asked):
            task = self.unlabelled.pop(0)
            admin.submit(task["id"], label=self.stripes.truth(task))
            self.labelled[int(task["id"])] = self.stripes.truth(task)
            return
        number = self.moments.choice(sorted(self.labelled))
        [annotation] = admin.get(f"/api/tasks/{number}/annotations/")
        said = self.moments.choice(SLANTS)
        admin.update(annotation["id"], label=said)
        self.labelled[number] = said

    def _keep_fine_tuning(self) -> None:
        """One is asked for as soon as the last one has ended."""
        with contextlib.closing(Store(f"sqlite:///{self.tiebreak.data / 'tiebreak.db'}")) as store:
            want_fine_tune(store, self.project, asked=True)

    def _kill(self, name: str) -> None:
        """Kill server or trainer, start it again, and see how long nobody was served."""
        self.at[self._activity() if name == TRAINER else "serving"] += 1
        self.killed[name] += 1
        began = time.monotonic()
        self.tiebreak.kill(name)
        if name == SERVER:
            self.tiebreak.start_server()
        else:
            self.tiebreak.start_trainer()
        wait_until(self._is_served, SECONDS, self.tiebreak.tails)
        self.seconds[name].append(time.monotonic() - began)
        if name == TRAINER and self.moments.random() < 0.8:
            # Else it is killed while it starts, most of the time.
            works = self.tiebreak.log(TRAINER).count(" works")
            deadline = time.monotonic() + SECONDS
            while self.tiebreak.log(TRAINER).count(" works") == works:
                if time.monotonic() > deadline:
                    self.failures.append(f"the trainer does not work: {self.tiebreak.tails()}")
                    return
                time.sleep(0.1)

    def _kill_child(self) -> None:
        """Kill the fine-tune's process, when there is one before long."""
        deadline = time.monotonic() + CHILD_SECONDS
        while (child := self._child()) is None:
            if time.monotonic() > deadline:
                self._kill(TRAINER)
                return
            time.sleep(0.1)
        time.sleep(self.moments.uniform(0, 3))
        self.at[self._activity()] += 1
        self.killed[CHILD] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        if not self._is_served():
            self.failures.append("not served without the fine-tune")

    def _child(self) -> int | None:
        """The process of the fine-tune that is under way."""
        found = re.findall(r"learns in process (\d+)", self.tiebreak.log(TRAINER))
        return int(found[-1]) if found and _is_fine_tune(int(found[-1])) else None

    def _activity(self) -> str:
        query = """SELECT p.activity, f.state, f.progress FROM projects p
            LEFT JOIN finetunes f ON f.project_id = p.id AND f.finished_at IS NULL"""
        activity, state, _ = self._rows(query)[0]
        what = re.sub(r"\d+", "N", activity) or "between steps"
        return f"{what}; fine-tune {state}" if state else what

    def _is_served(self) -> bool:
        """Whether every task that is asked about gets a ticked choice of some version."""
        body = {"tasks": self.asked, "project": f"{self.project}.1"}
        try:
            answer = httpx.post(
                f"{self.tiebreak.url}/predict",
                json=body,
                auth=LOG_IN,
                timeout=30,
                trust_env=False,
            )
            results = answer.raise_for_status().json()["results"]
        except (httpx.HTTPError, ValueError, LookupError):
            return False
        named = {entry["model_version"].partition(".")[0] for entry in results}
        return len(named) == 1 and named != {"v0"} and all(entry["result"] for entry in results)

    def _check(self) -> None:
        """The database is whole, and every version can be loaded."""
        for row in self._rows("PRAGMA integrity_check"):
            if row[0] != "ok":
                self.failures.append(f"integrity check: {row[0]}")
        for number in self._versions():
            try:
                load_whole(self.tiebreak.data, self.project, number)
            except ArtifactError as error:
                self.failures.append(str(error))

    def _versions(self) -> list[int]:
        rows = self._rows("SELECT number, backbone FROM versions WHERE NOT pruned")
        return [int(row[0]) for row in rows]

    def _rows(self, query: str) -> list[Any]:
        path: Path = self.tiebreak.data / "tiebreak.db"
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
            return database.execute(query).fetchall()


def _is_fine_tune(pid: int) -> bool:
    try:
        return b"backend.finetune_job" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
