"""Answers accepted under a promise, against a real Label Studio and in its own editor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from playwright.sync_api import Browser

from tests.e2e.digits import Digits, all_tasks, choices_of, connect_by_hand, predictions_of
from tests.e2e.label_studio_browser import LabelStudioBrowser
from tests.e2e.label_studio_person import Json, choice_results
from tests.e2e.tiebreak_processes import TiebreakProcesses, labels_learned, wait_until
from tests.tiebreak_process import REPOSITORY, environment

LABELLED, WAITING = 200, 50
PROMISE = ("--max-error", "0.4", "--confidence", "0.8")
SHARE = {"TIEBREAK_CHECK_SHARE": "0.2"}
"""Known to the command alone: the trainer goes by what a promise has left to people."""
SECONDS = 120.0


class Desk:
    """A project whose answers may be accepted, and what Label Studio holds of it."""

    def __init__(self, tiebreak: TiebreakProcesses, digits: Digits, project: int) -> None:
        self.tiebreak, self.digits, self.project = tiebreak, digits, project
        self.admin = digits.label_studio.admin
        known = [
            {**task, "annotations": [{"result": choice_results(label=digits.truth(task))}]}
            for task in digits.tasks(range(LABELLED))
        ]
        self.labelled = set(self.admin.import_tasks(project, known))
        self.waiting = set(digits.add_tasks(project, range(LABELLED, LABELLED + WAITING)))
        connect_by_hand(self.admin, project, tiebreak.url)
        tiebreak.wait(project, lambda s: labels_learned(s) == LABELLED, SECONDS)
        tiebreak.settle(project, SECONDS)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``tiebreak auto-label``, which leads a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "auto-label", str(self.project), *arguments],
            cwd=REPOSITORY,
            env=environment({**self.tiebreak.env, **SHARE}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(self, *arguments: str) -> Json:
        """Run it to its end; what it prints."""
        with self.start(*PROMISE, *arguments, "--json") as child:
            said, errors = child.communicate(timeout=SECONDS)
        assert child.returncode == 0, f"{said}\n{errors}"
        return dict(json.loads(said))

    def killed_after(self, answers: int) -> None:
        """Accept, and be killed once Label Studio holds some answers."""
        with self.start(*PROMISE, "--yes") as child:
            try:
                wait_until(lambda: len(self.answers()) >= answers, SECONDS)
            finally:
                os.killpg(child.pid, signal.SIGKILL)

    def answers(self) -> dict[int, list[Json]]:
        """Unlabelled task → its annotations, as Label Studio's Data Manager lists them."""
        return {
            int(task["id"]): task["annotations"]
            for task in all_tasks(self.admin, self.project)
            if task["id"] in self.waiting and task["annotations"]
        }

    def labels(self) -> dict[int, str]:
        """What is learned from."""
        found = self.tiebreak.labels(self.project).items()
        return {task: choices[0] for task, (status, choices) in found if status == "agreed"}


def said(annotation: Json) -> str:
    [item] = annotation["result"]
    return str(item["value"]["choices"][0])


@pytest.fixture
def desk(
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> Desk:
    return Desk(tiebreak, digits, digit_project)


def test_accept_correct_and_take_back(desk: Desk, chromium: Browser) -> None:
    tiebreak, project, admin = desk.tiebreak, desk.project, desk.admin
    before, version = desk.labels(), tiebreak.status(project)["version"]
    assert before.keys() == desk.labelled
    dry = desk.command()
    wanted = {one["task_id"]: one["choice"] for one in dry["accepted"]}
    checks = {one["task_id"] for one in dry["checks"]}
    assert len(wanted) > 8, dry["promises"]
    assert checks
    assert desk.answers() == {}

    # Killed in the middle, and gone on with: nothing is there twice, nothing is missing.
    desk.killed_after(3)
    assert 3 <= len(desk.answers()) < len(wanted)
    done = desk.command("--yes")
    held = desk.answers()
    assert {task: [said(each) for each in listed] for task, listed in held.items()} == {
        task: [choice] for task, choice in wanted.items()
    }
    run = done["run"]
    for [each] in held.values():
        assert each["result"][0]["id"].startswith(f"tiebreak-auto-{run}-")
        assert not each["ground_truth"]
    tasks = {task["id"]: task for task in all_tasks(admin, project)}
    assert all(tasks[t]["is_labeled"] and tasks[t]["total_annotations"] == 1 for t in wanted)

    # None of them is a label; the checks came forward in a new order, without a tick.
    def ordered(status: Json) -> Json | None:
        fits = status["automatic"] == len(wanted) and status["order"] != version
        return status if fits and status["served"] == status["order"] else None

    tiebreak.wait(project, ordered)
    status = tiebreak.settle(project)
    assert (status["labelled"], status["version"]) == (LABELLED, version)
    assert desk.labels() == before
    pushed = predictions_of(admin, project, status["order"])
    unticked = tiebreak.audit_tasks(project) | checks
    assert {t for t, [each] in pushed.items() if not choices_of(each)} == unticked & pushed.keys()
    assert checks <= pushed.keys()
    places = sorted(pushed, key=lambda task: pushed[task][0]["score"])
    assert min(places.index(task) for task in checks) < 4

    # A person corrects one in Label Studio's editor, tries another but leaves it as it was, and
    # labels a check.
    changed, confirmed, *_ = sorted(wanted)
    window = LabelStudioBrowser(chromium, desk.digits.label_studio)
    window.log_in()
    other = next(str(d) for d in range(10) if str(d) not in (wanted[changed], wanted[confirmed]))
    for task, choices in ((changed, [other]), (confirmed, [other, wanted[confirmed]])):
        window.correct(project, task, wanted[task], choices)
    window.close()
    [after] = desk.answers()[changed]
    assert said(after) == other
    assert after["result"][0]["id"] == held[changed][0]["result"][0]["id"]
    check = min(checks)
    truth = desk.digits.truth(tasks[check])
    admin.submit(check, label=truth)
    theirs = {changed: other, confirmed: wanted[confirmed], check: truth}
    tiebreak.wait_labels(project, before | theirs)
    [stands] = tiebreak.get(f"/api/projects/{project}/auto-label")["runs"]
    assert (stands["accepted"], stands["changed"]) == (len(wanted) - 2, 2)
    assert (stands["checks"], stands["checked"]) == (len(checks), 1)

    # Taken back is what nobody has touched.
    assert desk.command("--undo") == {"deleted": len(wanted) - 2}
    assert desk.answers().keys() == theirs.keys()
    tiebreak.wait(project, lambda s: s["automatic"] == 0)
    tiebreak.wait_labels(project, before | theirs)
