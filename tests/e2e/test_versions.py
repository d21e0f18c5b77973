"""Versions against a real Label Studio: put an older one back, and go on from there."""

from __future__ import annotations

import json

from tests.e2e.conftest import StartTiebreak
from tests.e2e.digits import (
    Digits,
    all_tasks,
    assert_all_scored,
    connect_by_hand,
    predictions_of,
)
from tests.e2e.label_studio_person import Json, Person
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TiebreakProcesses, is_settled

# One training for each row of labels, and a gate that lets every version pass.
ONE_AFTER_THE_OTHER = {
    "TIEBREAK_QUIET_SECONDS": "3",
    "TIEBREAK_MAX_WAIT_SECONDS": "60",
    "TIEBREAK_GATE_MARGIN": "1",
}


def _served_by(tiebreak: TiebreakProcesses, project: int, version: str) -> Json:
    """Wait until a version serves, Label Studio goes by its order and nothing is left to do."""
    return tiebreak.wait(
        project, lambda s: s if s["version"] == version and is_settled(s) else None
    )


def _run(tiebreak: TiebreakProcesses, *arguments: str) -> Json:
    done = tiebreak.run(*arguments, "--json")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(json.loads(done.stdout))


def _assert_first_in(person: Person, project: int, scores: dict[int, float]) -> None:
    """Somebody who has done nothing yet gets the first task."""
    task = person.next_task(project)
    assert task is not None
    assert task["id"] == min(scores, key=scores.__getitem__)


def test_a_version_is_rolled_back_and_learning_goes_on(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(label_studio, **ONE_AFTER_THE_OTHER)
    digits.add_tasks(project, range(80))
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)
    digits.label_next(admin, project, 12)
    assert_all_scored(admin, project, _served_by(tiebreak, project, "v1"))
    sent = predictions_of(admin, project, "v1")
    digits.label_next(admin, project, 12)
    _served_by(tiebreak, project, "v2")
    # The first version has nothing yet for tasks that come after it.
    late = digits.add_tasks(project, range(80, 86))
    tiebreak.wait(project, lambda s: s["embedded"] == 86 and is_settled(s))

    done = _run(tiebreak, "rollback", str(project))
    assert (done["version"], done["before"]) == ("v1", "v2")
    status = _served_by(tiebreak, project, "v1")
    tiebreak.wait(project, lambda _: set(late) <= predictions_of(admin, project, "v1").keys())
    scores = assert_all_scored(admin, project, status)
    held = predictions_of(admin, project, "v1")
    assert {len(predictions) for predictions in held.values()} == {1}
    assert {task: held[task] for task in sent} == sent
    assert held.keys() == sent.keys() | set(late)
    assert predictions_of(admin, project, "v2")
    _assert_first_in(label_studio.create_user("ann@tiebreak.example"), project, scores)
    [task] = [t for t in all_tasks(admin, project) if t["id"] == late[0]]
    body = {"tasks": [task], "project": f"{project}.1"}
    [answer] = tiebreak.post("/predict", body).raise_for_status().json()["results"]
    assert answer["model_version"] == "v1"
    assert answer["score"] == held[late[0]][0]["score"]

    # It holds: nothing is trained because of it. What Label Studio names is never pruned.
    status = tiebreak.settle(project)
    assert [(v["version"], v["serves"]) for v in status["versions"]] == [
        ("v2", False),
        ("v1", True),
    ]
    assert status["waiting"] == "new labels, because v1 was put back by hand"
    assert _run(tiebreak, "versions", str(project), "--prune")["removed"] == []

    # Until people have labelled more.
    digits.label_next(admin, project, 12)
    status = _served_by(tiebreak, project, "v3")
    scores = assert_all_scored(admin, project, status)
    _assert_first_in(label_studio.create_user("carl@tiebreak.example"), project, scores)
    assert _run(tiebreak, "rollback", str(project))["version"] == "v1"
