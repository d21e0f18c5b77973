"""Real trainers that hang, are stopped in mid-step, and are told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from backend.projects import register_project
from backend.settings import Settings
from backend.store import Store
from backend.tables import Label, Lease, Project, Trouble
from backend.watchdog import HUNG
from tests.backend.loop_project import CLASSES, COLOURS, config
from tests.backend.small_label_studio import SmallLabelStudio
from tests.tiebreak_process import kill, start

PATIENCE = 120.0


@pytest.fixture
def database() -> None:
    """SQLite in the folder of the processes."""


class Gate:
    """Keeps back the answers to some requests, and knows whether one waits."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self.wanted, self.waits, self.open = wanted, threading.Event(), threading.Event()

    def __call__(self, request: str) -> None:
        if not self.open.is_set() and self.wanted(request):
            self.waits.set()
            self.open.wait(PATIENCE)


class Trainers:
    """Trainers on one database, each a process."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, env
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, **env: str) -> subprocess.Popen[bytes]:
        process = start("trainer", self.folder / f"{name}.log", {**self.env, **env})
        self.running.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        for process in self.running:
            kill(process)


@pytest.fixture
def trainers(
    tmp_path: Path,
    settings: Settings,
    store: Store,
    small_label_studio: SmallLabelStudio,
    seeded_weights: Path,
) -> Iterator[Trainers]:
    """Six pictures, one of them labelled, and nobody at work yet."""
    for task in range(1, 7):
        small_label_studio.add_task(task, COLOURS["cat"])
    small_label_studio.annotate(1, label=["cat"])
    small_label_studio.project["label_config"] = config(*CLASSES)
    register_project(store, 1, title="Test", label_config=config(*CLASSES))
    made = Trainers(
        tmp_path,
        {
            "LABEL_STUDIO_URL": small_label_studio.url,
            "LABEL_STUDIO_API_KEY": "0" * 40,
            "TIEBREAK_DATA_DIR": str(settings.data_dir),
            "TIEBREAK_WEIGHTS_DIR": str(seeded_weights),
            "TIEBREAK_BACKBONE": "mobilenet_v3_small",
            "TIEBREAK_INPUT_SIZE": "32",
            "TIEBREAK_LEASE_SECONDS": "3",
            "OMP_NUM_THREADS": "1",
        },
    )
    yield made
    made.close()


def wait_for(condition: Callable[[], object], why: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.05)


def project(store: Store) -> Project:
    with store.read() as session:
        return session.get_one(Project, 1)


def label_of_the_first(store: Store) -> list[str]:
    with store.read() as session:
        return list(session.scalars(select(Label.choices)).one())


def test_a_trainer_that_hangs_ends_and_the_next_one_goes_on(
    trainers: Trainers, store: Store, small_label_studio: SmallLabelStudio
) -> None:
    gate = Gate(lambda request: request.startswith("GET /api/tasks"))
    small_label_studio.before_answer = gate
    first = trainers.start("first", TIEBREAK_STEP_SECONDS="2", TIEBREAK_LABEL_STUDIO_TIMEOUT="1000")
    assert first.wait(PATIENCE) == HUNG, trainers.log("first")
    said = trainers.log("first")
    assert "Comparing with Label Studio of project 1 has shown no progress for" in said
    assert "The trainer ends, for another one to take over." in said
    with store.read() as session:
        trouble = session.get_one(Trouble, (1, "look"))
        assert session.get(Lease, 1) is None
    assert (trouble.hung, trouble.failures) == (True, 1)
    gate.open.set()
    trainers.start("second")
    wait_for(lambda: project(store).served == "v0", lambda: trainers.log("second"))
    assert label_of_the_first(store) == ["cat"]


def test_a_trainer_that_was_stopped_does_no_harm_when_it_wakes(
    trainers: Trainers, store: Store, small_label_studio: SmallLabelStudio
) -> None:
    # The answer about the annotations is ready, and on its way for a long time.
    gate = Gate(lambda request: request.startswith("GET /api/tasks"))
    small_label_studio.before_answer = gate
    first = trainers.start("first")
    assert gate.waits.wait(PATIENCE), trainers.log("first")
    os.kill(first.pid, signal.SIGSTOP)
    small_label_studio.annotate(1, label=["dog"])
    small_label_studio.before_answer = lambda _: None
    trainers.start("second")
    wait_for(lambda: project(store).served == "v0", lambda: trainers.log("second"))
    assert label_of_the_first(store) == ["dog"]
    sent = len(small_label_studio.predictions)

    gate.open.set()
    os.kill(first.pid, signal.SIGCONT)
    wait_for(lambda: "took over project 1" in trainers.log("first"), lambda: trainers.log("first"))
    assert label_of_the_first(store) == ["dog"]
    assert (len(small_label_studio.predictions), project(store).served) == (sent, "v0")


def test_sigterm_gives_up_a_step_that_does_not_end(
    trainers: Trainers, store: Store, small_label_studio: SmallLabelStudio
) -> None:
    gate = Gate(lambda request: request.startswith("POST"))
    small_label_studio.before_answer = gate
    first = trainers.start("first", TIEBREAK_STOP_SECONDS="1")
    assert gate.waits.wait(PATIENCE), trainers.log("first")
    first.terminate()
    assert first.wait(PATIENCE) == 0
    assert "The step in hand is given up: it did not end within 1 s." in trainers.log("first")
    with store.read() as session:
        assert session.get(Lease, 1) is None
        assert session.scalars(select(Trouble)).all() == []
    assert project(store).pushing
    gate.open.set()
    trainers.start("second")
    wait_for(lambda: project(store).served == "v0", lambda: trainers.log("second"))
    assert {p["task"] for p in small_label_studio.predictions} == {2, 3, 4, 5, 6}
