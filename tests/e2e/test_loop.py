"""The loop against a real Label Studio: predict, order, label, retrain, score again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.digits import DIGIT_CONFIG, Digits, all_tasks, choices_of, predictions_of
from tests.e2e.label_studio_person import Json, Person
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TiebreakProcesses, wait_until

CLASSES = {str(digit) for digit in range(10)}


def connect_by_hand(person: Person, project: int, url: str) -> int:
    """Connect as Settings → Model does; the backend's number."""
    body = {"project": project, "url": url, "title": "My model", "auth_method": "NONE"}
    return int(person.post("/api/ml/", body)["id"])


def assert_all_scored(person: Person, project: int, status: Json) -> dict[int, float]:
    """Every unlabelled task carries one prediction of the served version; the scores."""
    remote = person.get(f"/api/projects/{project}")
    version = status["version"]
    assert remote["model_version"] == version == status["served"]
    assert remote["sampling"] == "Uncertainty sampling"
    held = predictions_of(person, project, version)
    scores = {}
    for task in all_tasks(person, project):
        if not task["is_labeled"]:
            assert len(held.get(task["id"], [])) == 1, f"task {task['id']}, {version}"
            scores[task["id"]] = held[task["id"]][0]["score"]
    assert all(isinstance(score, float) and 0 <= score <= 1 for score in scores.values())
    return scores


def test_two_annotators_a_new_version_and_the_new_order(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    ann = label_studio.create_user("ann@tiebreak.example")
    ids = digits.add_tasks(project, range(200))
    connect_by_hand(admin, project, tiebreak.url)

    status = tiebreak.settle(project)
    assert (status["version"], status["tasks"], status["embedded"]) == ("v0", 200, 200)
    scores = assert_all_scored(admin, project, status)
    assert len(set(scores.values())) == 200
    unlearned = predictions_of(admin, project, "v0")
    assert all(p["result"] == [] for held in unlearned.values() for p in held)
    first = admin.next_task(project)
    assert first is not None
    assert first["id"] == min(scores, key=scores.__getitem__)

    done = [digits.label_next((admin, ann)[turn % 2], project, 1)[0] for turn in range(80)]
    assert len(set(done)) == 80

    def learned(status: Json) -> Json | None:
        label = status["controls"][0]["labels"]
        newest = status["last_version"]
        return status if label == 80 and newest and newest["labels"] > 70 else None

    tiebreak.wait(project, learned)
    status = tiebreak.settle(project)
    assert (status["labelled"], status["unlabelled"], status["tasks"]) == (80, 120, 200)
    assert len(status["versions"]) > 1
    scores = assert_all_scored(admin, project, status)
    assert scores.keys() == set(ids) - set(done)
    held = predictions_of(admin, project, status["version"])
    right = 0
    for task in all_tasks(admin, project):
        if task["id"] in scores:
            [prediction] = held[task["id"]]
            [choice] = choices_of(prediction)
            assert choice in CLASSES
            assert 0 < prediction["result"][0]["score"] <= 1
            right += choice == digits.truth(task)
    assert right > 0.6 * len(scores)

    # Somebody who has done nothing yet gets the least certain one, the next person the second.
    carl = label_studio.create_user("carl@tiebreak.example")
    order = sorted(scores, key=scores.__getitem__)
    served = [person.next_task(project) for person in (carl, ann, admin)]
    assert [task and task["id"] for task in served] == order[:3]
