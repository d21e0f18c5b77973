"""Two machines with a trainer and a backend each, one project: networks are cut, clocks are wrong.

    python -m benchmarks.several_machines [--cuts 20] [--seed 5] [--lease 5] [--small] [--json]

PostgreSQL, an S3 server and a small Label Studio run on a third machine; network namespaces make
the three of this one, for which it takes Linux and root. The clock of the first machine is a minute
ahead, that of the second a minute behind. First the cable of the trainer that works is pulled
while Label Studio stores its predictions; then, over and over, people label and a cable is pulled
at a random moment for a random time. Exits with 1 where a task has two predictions of one order, a
version does not load from the bucket, a label is not learned, a trainer does not come back, or the
backend of the other machine does not answer meanwhile. ``--small``: the first cut alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from backend.champion import load_whole
from backend.projects import register_project
from backend.shared_files import SharedFiles
from backend.store import Store
from backend.tables import Label, Lease, Project, Trouble, Version
from benchmarks.report import report, say
from model.errors import TiebreakError
from tests.backend.loop_project import CLASSES, config, fill
from tests.backend.real_server import write_weights
from tests.backend.small_label_studio import SmallLabelStudio
from tests.callers import API_TOKEN, LOG_IN, PASSWORD, WEBHOOK_SECRET
from tests.machines import HUB, Machine, become_hub, why_not
from tests.postgres import PostgresServer
from tests.s3_server import ACCESS, BUCKET, S3Server
from tests.serving import serving

PICTURES, LABELLED = 40, 12
SHIFTS = (60, -60)
PORT = "9090"
SECONDS = 120.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

Found = dict[str, Any]


class Team:
    """Two machines at work on one project of the hub."""

    def __init__(self, folder: Path, seed: int, lease: float) -> None:
        self.random, self.lease = random.Random(seed), lease
        self.failures: list[str] = []
        self.takeovers: list[float] = []
        self._folder, self._labelled = folder, LABELLED
        self._ends = contextlib.ExitStack()
        self._answers = Counter[str]()
        self._idle = threading.Event()

    def __enter__(self) -> Team:
        with contextlib.ExitStack() as ends:
            postgres = PostgresServer(HUB, careless=True)
            ends.callback(postgres.close)
            postgres.start()
            self.store = Store(postgres.url())
            ends.callback(self.store.close)
            self.store.migrate()
            bucket = S3Server(HUB)
            bucket.start()
            ends.callback(bucket.stop)
            self.bucket = SharedFiles(f"s3://{BUCKET}/team", bucket.url)
            self.studio = ends.enter_context(serving(SmallLabelStudio(HUB)))
            fill(self.studio, PICTURES, LABELLED)
            register_project(self.store, 1, title="Team", label_config=config(*CLASSES))
            write_weights(self._folder)
            settings = self._settings(postgres.url(), bucket.url)
            self.machines = [
                Machine(number, self._folder, shift, settings)
                for number, shift in enumerate(SHIFTS, 1)
            ]
            for machine in self.machines:
                ends.callback(machine.close)
                machine.start().run("trainer")
                machine.run("serve")
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _settings(self, database: str, endpoint: str) -> dict[str, str]:
        return {
            "LABEL_STUDIO_URL": self.studio.url,
            "LABEL_STUDIO_API_KEY": "0" * 40,
            "DATABASE_URL": database,
            "TIEBREAK_ARTIFACTS": self.bucket.root,
            "TIEBREAK_S3_ENDPOINT": endpoint,
            "TIEBREAK_PORT": PORT,
            "TIEBREAK_PASSWORD": PASSWORD,
            "TIEBREAK_API_TOKEN": API_TOKEN,
            "TIEBREAK_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "TIEBREAK_BACKBONE": "mobilenet_v3_small",
            "TIEBREAK_INPUT_SIZE": "32",
            "TIEBREAK_WEIGHTS_DIR": str(self._folder / "weights"),
            "TIEBREAK_TRANSFER": "features",
            "TIEBREAK_LEASE_SECONDS": str(self.lease),
            "TIEBREAK_LABEL_STUDIO_TIMEOUT": "5",
            "TIEBREAK_POLL_SECONDS": "1",
            "TIEBREAK_MIN_NEW_LABELS": "1",
            "TIEBREAK_QUIET_SECONDS": "0.1",
            "TIEBREAK_WORKERS": "1",
            "TIEBREAK_IMAGE_DECODERS": "1",
            "OMP_NUM_THREADS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **ACCESS,
            **dict.fromkeys(PROXIES, ""),
        }

    def label(self, count: int) -> None:
        """The next tasks are labelled, from the first one on again once all are."""
        for _ in range(count):
            self._labelled += 1
            task = 1 + self._labelled % PICTURES
            self.studio.annotate(task, label=[self.random.choice(CLASSES)])

    def wait(self, what: str, ask: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """What is asked for, once it is there."""
        deadline = time.monotonic() + seconds
        while not (found := ask()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {seconds:g} s\n{self._tails()}")
            time.sleep(0.2)
        return found

    def settled(self) -> bool:
        """Every label is learned, or found too few; every open task has the order's prediction."""
        with self.store.read() as session:
            project = session.get_one(Project, 1)
            rows = session.scalars(select(Label).where(Label.project_id == 1)).all()
        wanted = {
            task: found["annotations"][0]["result"][0]["value"]["choices"]
            for task, found in self.studio.tasks.items()
            if found["annotations"]
        }
        open_tasks = self.studio.tasks.keys() - wanted.keys()
        served = self.studio.project.get("model_version")
        return (
            {row.task_id: row.choices for row in rows} == wanted
            and not project.pushing
            and project.champion > 0
            and project.served == served
            and self._all_learned()
            and open_tasks <= self.studio.served().keys()
        )

    def _all_learned(self) -> bool:
        """Whether no label differs from what the last training saw."""
        with self.store.read() as session:
            project = session.get_one(Project, 1)
            labels = session.scalars(select(Label).where(Label.project_id == 1)).all()
        return project.due_since is None and all(row.learned == row.choices for row in labels)

    def owner(self) -> str:
        """The trainer that holds the lease; empty while none does."""
        with self.store.read() as session:
            return session.scalar(select(Lease.owner).where(Lease.project_id == 1)) or ""

    def machine_of(self, owner: str) -> Machine | None:
        """The machine whose trainer is called so."""
        for machine in self.machines:
            if f"-{machine.pid('trainer')}-" in owner:
                return machine
        return None

    def cut_while_pushing(self, *, ask_the_cut_one: bool) -> Found:
        """Pull the cable of the trainer that works, while Label Studio stores its predictions."""
        storing, go_on = threading.Event(), threading.Event()

        def hold(request: str) -> None:
            if (
                request.startswith("POST /api/projects/1/import/predictions")
                and not storing.is_set()
            ):
                storing.set()
                go_on.wait(SECONDS)

        self.studio.before_answer = hold
        self.label(5)
        assert storing.wait(SECONDS), self._tails()
        owner = self.owner()
        cut = self.machine_of(owner)
        assert cut is not None, owner
        other = self.machines[2 - cut.number]
        cut.cut()
        began = time.monotonic()
        # Label Studio has stored them; the answer comes to nobody.
        go_on.set()
        self.wait("another owner", lambda: self.owner() not in ("", owner))
        seconds = time.monotonic() - began
        self.takeovers.append(seconds)
        assert self.machine_of(self.owner()) is other or self.owner() == ""
        self.label(3)
        self.wait("the rest", self.settled)
        answered = self.predicts(other)
        told = self._says_when_cut(cut) if ask_the_cut_one else None
        cut.mend()
        self.wait("the cut backend", lambda: self.predicts(cut))
        self.label(3)
        self.wait("what came later", self.settled)
        self.check()
        return {
            "takeover_seconds": round(seconds, 1),
            "other_backend_answered": bool(answered),
            "cut_backend_said": told,
            "same_predictions": self.same_predictions(),
        }

    def cut_at_random(self) -> None:
        """Pull a cable at a random moment for a random time, while people label."""
        machine = self.machine_of(self.owner()) or self.random.choice(self.machines)
        other = self.machines[2 - machine.number]
        self.label(self.random.randint(1, 4))
        time.sleep(self.random.uniform(0, 1.5))
        machine.cut()
        self.label(self.random.randint(1, 4))
        deadline = time.monotonic() + self.random.uniform(0.2, 3 * self.lease)
        while time.monotonic() < deadline:
            if not self.predicts(other):
                self.failures.append(f"the backend of machine {other.number} did not answer")
            time.sleep(0.5)
        machine.mend()
        self.wait("all labels learned", self.settled)
        self.check()

    def predicts(self, machine: Machine) -> list[Any]:
        """What the backend of a machine says of every task; nothing where it does not answer."""
        tasks = [{"id": n, "data": {"image": f"/data/{n}"}} for n in sorted(self.studio.tasks)]
        body = {"project": "1.1", "tasks": tasks}
        try:
            answer = httpx.post(
                f"http://{machine.address}:{PORT}/predict",
                json=body,
                auth=LOG_IN,
                timeout=30,
                trust_env=False,
            )
        except httpx.TransportError:
            return []
        results: list[Any] = answer.json()["results"] if answer.status_code == 200 else []
        return results

    def same_predictions(self) -> bool:
        """Whether both backends say the same, and what Label Studio holds."""
        one, two = map(self.predicts, self.machines)
        held = self.studio.served()
        tasks = sorted(self.studio.tasks)
        return one == two and all(
            abs(one[tasks.index(task)]["score"] - each["score"]) < 1e-9
            for task, each in held.items()
            if not self.studio.tasks[task]["annotations"]
        )

    def check(self) -> None:
        """What must hold at any time: no prediction twice, no version that does not load."""
        counts = Counter((p["task"], p["model_version"]) for p in self.studio.predictions)
        if twice := [pair for pair, count in counts.items() if count > 1]:
            self.failures.append(f"predictions came twice: {sorted(twice)[:5]}")
        with self.store.read() as session:
            rows = session.scalars(select(Version).where(Version.project_id == 1)).all()
            troubles = session.scalars(select(Trouble.reason)).all()
        self.failures += [f"trouble: {reason}" for reason in troubles]
        with tempfile.TemporaryDirectory() as fresh:
            for row in rows:
                try:
                    load_whole(Path(fresh), 1, row.number, self.bucket, row.files)
                except TiebreakError as error:
                    self.failures.append(f"v{row.number}: {error}")
        for machine in self.machines:
            for command in ("trainer", "serve"):
                if not machine.runs(command):
                    self.failures.append(f"{command} of machine {machine.number} has ended")

    def versions(self) -> int:
        """How many versions there are."""
        with self.store.read() as session:
            return len(session.scalars(select(Version.number)).all())

    def request_training(self, machine: Machine) -> int:
        """Ask one backend for a training; how many versions came of it."""
        before = self.versions()
        self.label(1)
        answer = httpx.post(
            f"http://{machine.address}:{PORT}/train",
            json={"action": "START_TRAINING", "project": {"id": 1}},
            auth=LOG_IN,
            timeout=30,
            trust_env=False,
        )
        answer.raise_for_status()
        self.wait("the training", lambda: self.versions() > before)
        self.wait("its order", self.settled)
        time.sleep(2)
        return self.versions() - before

    def _says_when_cut(self, machine: Machine) -> str:
        """What a backend says to its own machine about a task while it is cut off."""
        body = {"project": "1.1", "tasks": [{"id": 1, "data": {"image": "/data/1"}}]}
        code = (
            "import httpx; said = httpx.post("
            f"'http://{machine.address}:{PORT}/predict', json={body}, auth={LOG_IN},"
            " timeout=90, trust_env=False); print(said.status_code, said.text)"
        )
        return machine.ask([sys.executable, "-c", code]).strip()

    def _tails(self) -> str:
        return "\n".join(
            f"--- {command} of machine {machine.number}\n{machine.said(command)[-2500:]}"
            for machine in self.machines
            for command in ("trainer", "serve")
        )


@contextlib.contextmanager
def team(seed: int, lease: float) -> Iterator[Team]:
    """Two machines that have settled."""
    with tempfile.TemporaryDirectory() as folder, Team(Path(folder), seed, lease) as made:
        for machine in made.machines:
            made.wait("an answer", lambda machine=machine: made.predicts(machine))
        made.wait("the first order", made.settled)
        yield made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--lease", type=float, default=5)
    parser.add_argument("--small", action="store_true", help="the first cut alone")
    parser.add_argument("--json", action="store_true", help="say nothing but the result")
    wanted = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    os.environ |= ACCESS | {"AWS_EC2_METADATA_DISABLED": "true"} | dict.fromkeys(PROXIES, "")
    become_hub()
    began = time.monotonic()
    with team(wanted.seed, wanted.lease) as made:
        ready = time.monotonic() - began
        found = made.cut_while_pushing(ask_the_cut_one=not wanted.small)
        if not wanted.small:
            found["versions_of_one_request"] = [made.request_training(m) for m in made.machines]
        for number in range(0 if wanted.small else wanted.cuts):
            if not wanted.json:
                say(f"{number} of {wanted.cuts} cuts, {len(made.failures)} failures")
            made.cut_at_random()
        found |= {
            "cuts": 1 if wanted.small else 1 + wanted.cuts,
            "clocks": list(SHIFTS),
            "lease_seconds": wanted.lease,
            "ready_seconds": round(ready, 1),
            "versions": made.versions(),
            "failures": made.failures,
            "exit_codes": [machine.stop() for machine in made.machines],
        }
    report(found | {"seconds": round(time.monotonic() - began, 1)})
    sys.exit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
