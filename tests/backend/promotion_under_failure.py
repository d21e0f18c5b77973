"""``python -m tests.backend.promotion_under_failure FOLDER KIND ERROR STICKY EVERY``

Run with a disk that fails (:mod:`tests.backend.failing_disk`): a promotion is made again and again,
each time from the same state, and each time another one of its writing calls fails. One JSON object
says what was seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.champion import Champions, load_whole
from backend.lease import Leases
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from backend.training import train
from backend.tuned_networks import TunedNetwork, keep_network, tuned_folder
from backend.versions import promote
from model.errors import StorageError
from model.weights import file_digest
from tests.backend.failing_disk import FailingDisk
from tests.backend.saved_versions import IDENTITY


class Work:
    """The folder under attack, and a copy of the state that every attempt starts from."""

    def __init__(self, folder: Path, disk: FailingDisk) -> None:
        self.folder, self.disk = folder, disk
        self.data, self.before = folder / "data", folder.with_name("before")
        self.settings = Settings(data_dir=self.data, audit_share=0.1)

    def reset(self) -> None:
        """The state before the promotion."""
        self.disk.work()
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.before, self.data)

    @contextlib.contextmanager
    def store(self) -> Any:
        """The database, closed in the end."""
        made = Store(self.settings.database_address)
        try:
            yield made
        finally:
            made.close()


def learn(work: Work) -> None:
    """A training that the gate keeps."""
    with work.store() as store:
        leases = Leases(store, "test", 1e9)
        champion = Champions(store, work.settings.data_dir).get(1)
        train(store, leases, work.settings, 1, IDENTITY, champion)


def by_hand(work: Work) -> None:
    """``tiebreak promote``."""
    with work.store() as store:
        promote(store, work.settings, 1, 1)


def adopt(work: Work) -> None:
    """A fine-tuned network finds its place, and a version that reads it is promoted."""
    tuned = work.data / "finetunes" / "tuned.safetensors"
    digest = file_digest(tuned) if tuned.exists() else file_digest(_tuned_path(work))
    record = TunedNetwork(
        identity=f"tuned-{digest[:8]}-32px",
        name="mobilenet_v2",
        input_size=32,
        sha256=digest,
        base=IDENTITY,
        trained=frozenset(),
    )
    keep_network(work.settings, tuned, record)
    with work.store() as store:
        leases = Leases(store, "test", 1e9)
        champion = Champions(store, work.settings.data_dir).get(1)
        train(store, leases, work.settings, 1, IDENTITY, champion, tuned=record)


def _tuned_path(work: Work) -> Path:
    [path] = tuned_folder(work.data).glob("*.safetensors")
    return path


KINDS: dict[str, Callable[[Work], None]] = {"learn": learn, "by-hand": by_hand, "adopt": adopt}


def check(work: Work, outcomes: Counter[str]) -> list[str]:
    """What is wrong with the state that a failure left."""
    wrong = []
    with contextlib.closing(sqlite3.connect(work.data / "tiebreak.db")) as database:
        for row in database.execute("PRAGMA integrity_check"):
            if row[0] != "ok":
                wrong.append(f"integrity: {row[0]}")
    with work.store() as store:
        with store.read() as session:
            project = session.get_one(Project, 1)
            numbers = [row.number for row in session.query(Version)]
        champion = project.champion
        outcomes["promoted" if champion != 2 else "as before"] += 1
        if champion not in numbers:
            wrong.append(f"champion v{champion} has no row")
        for number in numbers:
            try:
                load_whole(work.data, 1, number)
            except Exception as error:
                wrong.append(f"v{number}: {error}")
        served = Champions(store, work.data).get(1)
        if served is None or served.version != champion:
            wrong.append("the champion does not serve")
    return wrong


def attack(work: Work, kind: str, error: int, *, sticky: bool, every: int) -> dict[str, Any]:
    """Let each ``every``-th writing call fail, in turn; all that follow too where ``sticky``."""
    outcomes: Counter[str] = Counter()
    told: Counter[str] = Counter()
    wrong: list[str] = []
    work.reset()
    work.disk.work()
    KINDS[kind](work)
    calls = work.disk.count
    for number in range(1, calls + 1, every):
        work.reset()
        work.disk.fail(error, number, number if not sticky else 2**62)
        try:
            KINDS[kind](work)
            told["no error"] += 1
        except StorageError as caught:
            told["StorageError"] += 1
            if str(work.data) not in str(caught):
                wrong.append(f"call {number}: no path in {caught}")
        except Exception as caught:
            told[type(caught).__name__] += 1
            wrong.append(f"call {number}: {type(caught).__name__}: {caught}")
        work.disk.work()
        wrong += [f"call {number}: {each}" for each in check(work, outcomes)]
        # With space again the same goes well.
        try:
            KINDS[kind](work)
        except Exception as caught:
            wrong.append(f"call {number}: afterwards {type(caught).__name__}: {caught}")
        wrong += [f"call {number}, afterwards: {each}" for each in check(work, Counter())]
        left = [str(p) for p in work.data.rglob("*") if ".staged" in p.name or ".partial" in p.name]
        wrong += [f"call {number} left {each}" for each in left if kind != "by-hand"]
    return {"calls": calls, "outcomes": outcomes, "told": told, "wrong": wrong}


def main() -> None:
    folder, kind, error, sticky, every = sys.argv[1:]
    disk = FailingDisk.of_environment()
    work = Work(Path(folder), disk)
    found = attack(work, kind, int(error), sticky=sticky == "1", every=int(every))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
    os._exit(0)
