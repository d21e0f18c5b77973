"""What happens when things are killed, stopped, damaged or never heard of."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.bad_post import RARELY, label_through
from tests.e2e.conftest import StartLabelStudio, StartTiebreak
from tests.e2e.digits import (
    DIGIT_CONFIG,
    Digits,
    all_tasks,
    assert_all_scored,
    choices_of,
    connect_by_hand,
    predictions_of,
)
from tests.e2e.label_studio_person import Json
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import (
    SERVER,
    TRAINER,
    TiebreakProcesses,
    labels_learned,
    wait_until,
)


def predict(tiebreak: TiebreakProcesses, project: int, tasks: list[Json]) -> list[Json]:
    """Results of /predict, asked as Label Studio asks."""
    body = {"tasks": tasks, "project": f"{project}.1", "label_config": DIGIT_CONFIG}
    answer = tiebreak.post("/predict", body).raise_for_status().json()
    return list(answer["results"])


def assert_ticked(
    tiebreak: TiebreakProcesses, project: int, tasks: list[Json], results: list[Json]
) -> None:
    """All but the images of the audit set have a choice."""
    answers = zip(tasks, results, strict=True)
    unticked = {int(task["id"]) for task, entry in answers if not choices_of(entry)}
    assert unticked == tiebreak.audit_tasks(project) & {int(task["id"]) for task in tasks}


def test_label_studio_is_slow_and_down_for_a_while(
    start_label_studio: StartLabelStudio, start_tiebreak: StartTiebreak, digit_files: Path
) -> None:
    label_studio = start_label_studio()
    digits = Digits(label_studio, digit_files)
    settings = {"TIEBREAK_POLL_SECONDS": "1", "TIEBREAK_LABEL_STUDIO_TIMEOUT": "2"}
    tiebreak = start_tiebreak(label_studio, **settings)
    admin, project = label_studio.admin, digits.create_project("Up and down")
    digits.add_tasks(project, range(40))
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)
    digits.label_next(admin, project, 12)
    tiebreak.wait(project, labels_learned)
    status = tiebreak.settle(project)
    version, order = status["version"], status["order"]
    tasks = all_tasks(admin, project)

    # It takes connections and answers none of them.
    label_studio.pause()
    try:
        error = tiebreak.wait(project, lambda s: s["error"])
        assert label_studio.url in error
        assert_ticked(tiebreak, project, tasks, predict(tiebreak, project, tasks))
        assert tiebreak.get("/health")["status"] == "UP"
    finally:
        label_studio.resume()
    tiebreak.wait(project, lambda s: not s["error"])

    # The last labels before the end are heard of by nobody in time.
    tiebreak.kill(TRAINER)
    digits.label_next(admin, project, 5)
    label_studio.stop()
    tiebreak.start_trainer()
    error = tiebreak.wait(project, lambda s: s["error"])
    assert label_studio.url in error
    assert "cannot be reached" in error
    results = predict(tiebreak, project, tasks)
    assert [entry["model_version"] for entry in results] == [order] * len(tasks)
    assert_ticked(tiebreak, project, tasks, results)
    assert tiebreak.get("/health")["status"] == "UP"
    assert tiebreak.status(project)["version"] == version

    label_studio.start()
    tiebreak.wait(project, lambda s: not s["error"] and s["controls"][0]["labels"] == 17)
    digits.label_next(admin, project, 6)
    status = tiebreak.wait(project, lambda s: s if labels_learned(s) == 23 else None)
    assert status["version"] != version
    assert_all_scored(admin, project, tiebreak.settle(project))


def test_every_webhook_is_lost(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(label_studio, TIEBREAK_POLL_SECONDS="2")
    ids = digits.add_tasks(project, range(40))
    connect_by_hand(admin, project, tiebreak.url)
    [hook] = admin.get("/api/webhooks/", project=project)
    admin.patch(f"/api/webhooks/{hook['id']}/", {"url": "http://127.0.0.1:1/webhook"})
    tiebreak.settle(project)

    annotations = {task: admin.submit(task, label=str(n)) for n, task in enumerate(ids[:6])}
    wanted = {task: str(n) for n, task in enumerate(ids[:6])}
    tiebreak.wait_labels(project, wanted)
    admin.update(annotations[ids[0]], label="9")
    admin.delete_annotation(annotations[ids[1]])
    admin.skip(ids[7])
    admin.delete(f"/api/tasks/{ids[2]}/")
    wanted = {**wanted, ids[0]: "9"}
    del wanted[ids[1]], wanted[ids[2]]
    tiebreak.wait_labels(project, wanted)
    assert tiebreak.status(project)["tasks"] == 39

    late = digits.add_tasks(project, range(40, 44))
    for number, task in enumerate(ids[10:20]):
        admin.submit(task, label=str(number))
    tiebreak.wait(project, lambda s: s["controls"][0]["labels"] == 14 and labels_learned(s))
    assert late[0] in assert_all_scored(admin, project, tiebreak.settle(project))


def test_a_trainer_killed_again_and_again_carries_on(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(label_studio, TIEBREAK_QUEUE_HEAD="10")
    digits.add_tasks(project, range(50))
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.wait(project, lambda s: s["served"] == "v0")
    moments = random.Random(20)
    for starts in range(1, 4):
        wait_until(lambda n=starts: tiebreak.log(TRAINER).count(" works") == n)
        digits.label_next(admin, project, 10)
        # From the look at the new labels to the push of what was learned from them.
        time.sleep(moments.uniform(0, 4))
        tiebreak.kill(TRAINER)
        order = admin.get(f"/api/projects/{project}")["model_version"]
        assert predictions_of(admin, project, order), "no task carries what is ordered by"
        tiebreak.start_trainer()
    status = tiebreak.wait(project, lambda s: s if labels_learned(s) == 30 else None)
    status = tiebreak.settle(project)
    assert status["controls"][0]["labels"] == 30
    assert_all_scored(admin, project, status, once=False)


def test_a_damaged_champion_is_replaced(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(label_studio)
    digits.add_tasks(project, range(40))
    backend = connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)
    for count, version in ((6, "v1"), (4, "v2")):
        digits.label_next(admin, project, count)
        expected = 6 if version == "v1" else 10
        tiebreak.wait(project, lambda s, n=expected: s["controls"][0]["labels"] == n)
        admin.post(f"/api/ml/{backend}/train")
        tiebreak.wait(project, lambda s, v=version: s["version"] == v)
    tiebreak.settle(project)
    tasks = all_tasks(admin, project)
    before = predict(tiebreak, project, tasks)
    assert {entry["model_version"] for entry in before} == {"v2"}

    tiebreak.kill(SERVER)
    tiebreak.start_server()
    after = predict(tiebreak, project, tasks)
    assert [e["score"] for e in after] == [e["score"] for e in before]

    tiebreak.kill(SERVER)
    tiebreak.kill(TRAINER)
    [tensors] = (tiebreak.data / "artifacts" / f"project-{project}" / "v2").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-7] + b"garbage")
    tiebreak.start_server()
    served = predict(tiebreak, project, tasks)
    assert {entry["model_version"] for entry in served} == {"v1"}
    assert_ticked(tiebreak, project, tasks, served)
    tiebreak.start_trainer()
    tiebreak.wait(project, lambda s: s["version"] == "v3")
    assert_all_scored(admin, project, tiebreak.settle(project))
    assert {e["model_version"] for e in predict(tiebreak, project, tasks)} == {"v3"}


def test_webhooks_are_lost_doubled_and_shuffled(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    project = digit_project
    tiebreak = start_tiebreak(label_studio, **RARELY)
    digits.add_tasks(project, range(40))
    tiebreak.connect(project)
    tiebreak.wait(project, lambda s: s["served"] == "v0")
    found = label_through(tiebreak, digits, project, actions=30, seed=7)
    assert found["webhooks"]["lost"] > 3
    assert found["webhooks"]["delivered"] > 20
    assert found["wrong_after_one_look"] == 0


def test_twenty_ask_for_a_training_at_once(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    settings = {"TIEBREAK_MIN_NEW_LABELS": "1000", "TIEBREAK_TRANSFER": "features"}
    tiebreak = start_tiebreak(label_studio, **settings)
    digits.add_tasks(project, range(30))
    tiebreak.connect(project)
    tiebreak.wait(project, lambda s: s["served"] == "v0")
    digits.label_next(admin, project, 12)
    tiebreak.wait(project, lambda s: s["controls"][0]["labels"] == 12)
    tiebreak.settle(project)

    hook = {"action": "START_TRAINING", "project": {"id": project}}
    asked = [("/webhook", hook), ("/train", {"project": project})] * 10
    most_waiting = 0
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda each: tiebreak.post(*each), asked))
    assert {answer.status_code for answer in answers} == {200}
    while True:
        waiting = tiebreak.requests_waiting(project)
        most_waiting = max(most_waiting, waiting)
        if not waiting and tiebreak.count("hints") == 0:
            break
    status = tiebreak.settle(project)
    assert most_waiting <= 1
    assert tiebreak.log(TRAINER).count(": trained v") == 1
    assert [version["version"] for version in status["versions"]] == ["v1"]
    assert labels_learned(status) == 12
