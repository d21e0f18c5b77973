"""A project with two questions about each image, one of them with several answers, learns both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.datasets import load_digits

from backend.champion import artifact_folder
from model.artifact import load_artifact
from tests.e2e.conftest import StartTiebreak
from tests.e2e.digits import (
    Digits,
    all_tasks,
    assert_all_scored,
    connect_by_hand,
    predictions_of,
)
from tests.e2e.label_studio_person import Json
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import labels_learned

CONFIG = """<View><Image name="image" value="$image"/>
  <Choices name="digit" toName="image">
    <Choice value="0"/><Choice value="1"/><Choice value="2"/><Choice value="3"/><Choice value="4"/>
  </Choices>
  <Choices name="marks" toName="image" choice="multiple">
    <Choice value="even"/><Choice value="loop"/><Choice value="below three"/>
  </Choices></View>"""
MARKS = ("even", "loop", "below three")
TASKS, LABELS = 150, 60
# Every training promotes, and one follows each ten labels.
SETTINGS = {"TIEBREAK_AUDIT_SHARE": "0", "TIEBREAK_MIN_NEW_LABELS": "10"}


def marks_of(digit: str) -> list[str]:
    """What a person ticks; nothing at all for a three."""
    number = int(digit)
    flags = (number % 2 == 0, number == 0, number < 3)
    return [name for name, flag in zip(MARKS, flags, strict=True) if flag]


@pytest.fixture
def two_questions(digits: Digits, label_studio: LabelStudioServer) -> Iterator[int]:
    """A project that shows digits below five and asks two things of each."""
    project = digits.create_project("Two questions", CONFIG)
    digits.add_tasks(project, np.flatnonzero(load_digits().target < 5)[:TASKS].tolist())
    yield project
    label_studio.admin.delete_project(project)


def answered(prediction: Json) -> dict[str, list[str]]:
    """Control → the choices that a prediction ticks."""
    return {item["from_name"]: item["value"]["choices"] for item in prediction["result"]}


def test_one_choice_and_several_are_learned_together(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    two_questions: int,
) -> None:
    admin, project = label_studio.admin, two_questions
    tiebreak = start_tiebreak(label_studio, **SETTINGS)
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project, 180)
    done = set()
    for _ in range(LABELS):
        task = admin.next_task(project)
        assert task is not None
        truth = digits.truth(task)
        ticks = {"marks": marks_of(truth)} if marks_of(truth) else {}
        admin.submit(task["id"], digit=truth, **ticks)
        done.add(int(task["id"]))
    assert len(done) == LABELS

    # Each submit is a label of both questions.
    def learned(status: Json) -> bool:
        labels = [control["labels"] for control in status["controls"]]
        return labels == [LABELS, LABELS] and labels_learned(status) > 2 * (LABELS - 10)

    tiebreak.wait(project, learned, 180)
    status = tiebreak.settle(project, 180)
    assert len(status["versions"]) > 1

    # Both heads are in one version, each with its own figures.
    number = int(status["version"].removeprefix("v"))
    artifact = load_artifact(artifact_folder(tiebreak.data, project, number))
    assert {name: head.multiple for name, head in artifact.heads.items()} == {
        "digit": False,
        "marks": True,
    }
    assert artifact.heads["digit"].thresholds is None
    thresholds = artifact.heads["marks"].to_arrays()["thresholds"]
    assert thresholds.shape == (3,)
    assert ((thresholds > 0.2) & (thresholds <= 0.5)).all()
    figures = status["last_version"]["metrics"]["controls"]
    assert figures["digit"]["tested"] == figures["marks"]["tested"] > LABELS - 10
    # Chance: a fifth; and ticking everything, 7 of 15 rightly, has an F1 of 0.64.
    assert figures["digit"]["accuracy"] > 0.6
    assert figures["marks"]["micro_f1"] > 0.75
    assert figures["marks"]["macro_f1"] > 0.7

    # What Label Studio holds for the rest answers both, and rightly.
    scores = assert_all_scored(admin, project, status)
    assert scores.keys().isdisjoint(done)
    assert len(scores) == TASKS - LABELS
    held = predictions_of(admin, project, status["order"])
    unticked = tiebreak.audit_tasks(project, share=0.0)
    assert {t for t in scores if not held[t][0]["result"]} == unticked & scores.keys()
    right, both, said, true = 0, 0, [], []
    for task in all_tasks(admin, project):
        if task["id"] not in scores.keys() - unticked:
            continue
        truth = digits.truth(task)
        answers = answered(held[task["id"]][0])
        right += answers["digit"] == [truth]
        both += answers.keys() == {"digit", "marks"}
        said.append([name in answers.get("marks", []) for name in MARKS])
        true.append([name in marks_of(truth) for name in MARKS])
    wrong = np.logical_xor(said, true)
    f1 = 2 * np.logical_and(said, true).sum() / (np.sum(said) + np.sum(true))
    told = f"{right} of {len(said)} digits right, micro F1 {f1:.3f}"
    print(told)
    assert right > 0.8 * len(said), told
    assert f1 > 0.85, told
    assert (~wrong.any(axis=1)).mean() > 0.65, told
    assert both > len(said) / 2, told
