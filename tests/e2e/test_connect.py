"""Connecting: ``tiebreak connect``, both kinds of token, and what a refusal says."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.callers import LOG_IN
from tests.e2e.conftest import StartLabelStudio, StartTiebreak
from tests.e2e.digits import Digits, assert_all_scored, choices_of, connect_by_hand, predictions_of
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TRAINER, TiebreakProcesses, labels_learned


def test_connect_gives_a_project_all_it_needs_however_often(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    title = admin.get(f"/api/projects/{project}")["title"]
    digits.add_tasks(project, range(30))
    by_title = tiebreak.run("connect", title)
    assert by_title.returncode == 0, by_title.stderr
    label_url = f"{label_studio.url}/projects/{project}/data?tab="
    assert by_title.stdout.startswith(label_url)
    report = tiebreak.connect(project)
    assert report == tiebreak.connect(project)
    assert (report["controls"], report["left_alone"]) == (["label"], [])
    assert (report["button"], report["warnings"]) == ("Label All Tasks", [])

    [backend] = admin.get("/api/ml/", project=project)
    assert (backend["url"], backend["readable_state"]) == (tiebreak.url, "Connected")
    [hook] = admin.get("/api/webhooks/", project=project)
    assert hook["url"] == f"{tiebreak.url}/webhook"
    assert len(hook["headers"]["X-Tiebreak-Secret"]) > 20
    assert tiebreak.status(project)["title"] == title

    status = tiebreak.settle(project)
    scores = assert_all_scored(admin, project, status)
    shown = admin.get("/api/tasks", project=project, view=report["queue_tab"])["tasks"]
    assert [task["id"] for task in shown] == sorted(scores, key=scores.__getitem__)

    # The webhook carries the secret that the server wants: the labels arrive.
    done = digits.label_next(admin, project, 1)
    tiebreak.wait(project, lambda s: s["controls"][0]["labels"] == 1)
    assert done == [shown[0]["id"]]
    assert report["label_url"] == f"{label_url}{report['queue_tab']}"


def test_a_backend_connected_once_more_by_hand_loses_nothing(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    """With a personal access token, from the first task to the first version."""
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(
        label_studio,
        LABEL_STUDIO_API_KEY=label_studio.personal_token,
        TIEBREAK_POLL_SECONDS="1",
    )
    digits.add_tasks(project, range(24))
    tiebreak.connect(project)
    tiebreak.settle(project)
    digits.label_next(admin, project, 12)
    tiebreak.wait(project, labels_learned)
    status = tiebreak.settle(project)
    assert_all_scored(admin, project, status)
    held = predictions_of(admin, project, status["order"])
    unticked = {task for task, predictions in held.items() if not choices_of(predictions[0])}
    assert unticked == tiebreak.audit_tasks(project) & held.keys()

    [backend] = admin.get("/api/ml/", project=project)
    admin.delete(f"/api/ml/{backend['id']}")
    connect_by_hand(admin, project, tiebreak.url)
    admin.patch(
        f"/api/projects/{project}/",
        {"model_version": "My model", "sampling": "Sequential sampling"},
    )
    tiebreak.wait(
        project,
        lambda _: admin.get(f"/api/projects/{project}")["model_version"] == status["order"],
    )
    assert_all_scored(admin, project, tiebreak.settle(project))
    for name in (TRAINER, "server"):
        assert label_studio.personal_token not in tiebreak.log(name)


def test_label_studio_refuses_the_private_address(
    start_label_studio: StartLabelStudio, tmp_path: Path
) -> None:
    defaults = {"ML_BLOCK_LOCAL_IP": "true", "SSRF_PROTECTION_ENABLED": "true"}
    label_studio = start_label_studio(defaults)
    tiebreak = TiebreakProcesses(tmp_path / "tiebreak", label_studio, tmp_path)
    admin = label_studio.admin
    config = (
        '<View><Image name="image" value="$image"/><Choices name="label" toName="image">'
        '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
    )
    project = admin.create_project("Guarded", config)
    refused = tiebreak.run("connect", "Guarded")
    assert refused.returncode == 1
    for words in (tiebreak.url, "ML_BLOCK_LOCAL_IP=false", "SSRF_PROTECTION_ENABLED=false"):
        assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    as_json = tiebreak.run("connect", "Guarded", "--json")
    assert as_json.returncode == 1
    assert "ML_BLOCK_LOCAL_IP=false" in json.loads(as_json.stdout)["mend"]
    assert admin.get("/api/ml/", project=project) == []
    assert admin.get("/api/webhooks/", project=project) == []
    assert json.loads(tiebreak.run("status", "--json").stdout)["projects"] == []
    tiebreak.close()


def test_connect_says_what_is_wrong(
    label_studio: LabelStudioServer, tiebreak: TiebreakProcesses
) -> None:
    unknown = tiebreak.run("connect", "No such project")
    assert unknown.returncode == 1
    assert "No such project" in unknown.stderr

    text = '<View><Text name="t" value="$text"/><TextArea name="x" toName="t"/></View>'
    label_studio.admin.create_project("Letters", text)
    nothing = tiebreak.run("connect", "Letters")
    assert nothing.returncode == 1
    assert "nothing to learn" in nothing.stderr
    assert "<Choices" in nothing.stderr

    stranger = httpx.get(f"{tiebreak.url}/api/projects/4711", auth=LOG_IN, trust_env=False)
    assert stranger.status_code == 404
    assert "tiebreak connect 4711" in stranger.json()["mend"]


def test_the_train_command_waits_and_says_what_came_of_it(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    ids = digits.add_tasks(project, range(20))
    tiebreak.connect(project)
    tiebreak.settle(project)

    def trained() -> str:
        done = tiebreak.run("train", str(project))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert trained() == "Nothing was trained: no labels yet."
    admin.submit(ids[0], label="0")
    assert trained().startswith("Nothing was trained: labels of at least two different classes")
    for number, task in enumerate(ids[1:6]):
        admin.submit(task, label=str(number % 2))
    assert trained().startswith("v1, from 6 labels")
    assert trained().startswith("Nothing was trained")
    assert tiebreak.settle(project)["served"] == "v1"
