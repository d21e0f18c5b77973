"""The loop against a real Label Studio: predict, order, label, retrain, score again."""

from __future__ import annotations

import contextlib
import statistics
import time

import httpx
import pytest

from tests.e2e.conftest import StartTiebreak
from tests.e2e.digits import (
    DIGIT_CONFIG,
    Digits,
    all_tasks,
    assert_all_scored,
    choices_of,
    connect_by_hand,
    predictions_of,
)
from tests.e2e.label_studio_person import Json, choice_results
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TiebreakProcesses, labels_learned, wait_until

CLASSES = {str(digit) for digit in range(10)}


def test_two_annotators_a_new_version_and_the_new_order(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    ann = label_studio.create_user("ann@tiebreak.example")
    ids = digits.add_tasks(project, range(150))
    connect_by_hand(admin, project, tiebreak.url)

    status = tiebreak.settle(project)
    assert (status["version"], status["tasks"], status["embedded"]) == ("v0", 150, 150)
    scores = assert_all_scored(admin, project, status)
    assert len(set(scores.values())) == 150
    # It opened in a random order, which was made anew when the images were known.
    assert status["order"] == "v0.1"
    for order in ("v0", "v0.1"):
        unlearned = predictions_of(admin, project, order)
        assert unlearned.keys() == set(ids)
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
    assert (status["labelled"], status["unlabelled"], status["tasks"]) == (80, 70, 150)
    assert len(status["versions"]) > 1
    scores = assert_all_scored(admin, project, status)
    assert scores.keys() == set(ids) - set(done)
    held = predictions_of(admin, project, status["order"])
    audit = tiebreak.audit_tasks(project)
    assert {t for t in scores if not choices_of(held[t][0])} == audit & scores.keys()
    assert audit & set(done)
    right = 0
    for task in all_tasks(admin, project):
        if task["id"] in scores.keys() - audit:
            [prediction] = held[task["id"]]
            [choice] = choices_of(prediction)
            assert choice in CLASSES
            assert 0 < prediction["result"][0]["score"] <= 1
            right += choice == digits.truth(task)
    assert right > 0.6 * len(scores)

    # Somebody who has done nothing yet gets the first one, the next person the second.
    carl = label_studio.create_user("carl@tiebreak.example")
    order = sorted(scores, key=scores.__getitem__)
    served = [person.next_task(project) for person in (carl, ann, admin)]
    assert [task and task["id"] for task in served] == order[:3]


def test_every_change_of_annotations_reaches_the_labels(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    ann = label_studio.create_user("ann@tiebreak.example")
    carl = label_studio.create_user("carl@tiebreak.example")
    ids = digits.add_tasks(project, range(40))
    backend = connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)

    one, two = admin.submit(ids[0], label="0"), ann.submit(ids[1], label="7")
    tiebreak.wait_labels(project, {ids[0]: "0", ids[1]: "7"})
    admin.update(two, label="1")
    tiebreak.wait_labels(project, {ids[0]: "0", ids[1]: "1"})
    admin.delete_annotation(one)
    tiebreak.wait_labels(project, {ids[1]: "1"})

    admin.skip(ids[2])
    admin.save_draft(ids[3], label="3")
    admin.submit(ids[4], label="4")
    tiebreak.wait_labels(project, {ids[1]: "1", ids[4]: "4"})
    ann.submit(ids[4], label="9")
    tiebreak.wait_labels(project, {ids[1]: "1"})
    status = tiebreak.settle(project)
    assert status["skipped"] == 1
    assert status["controls"][0]["tied"] == [ids[4]]
    carl.submit(ids[4], label="4")
    tiebreak.wait_labels(project, {ids[1]: "1", ids[4]: "4"})
    assert tiebreak.status(project)["controls"][0]["tied"] == []
    assert tiebreak.status(project)["version"] == "v0"

    # The button in Label Studio's settings: now, with far fewer labels than a retraining needs.
    for number in (5, 6, 7):
        admin.submit(ids[number], label=str(number))
    admin.post(f"/api/ml/{backend}/train")
    status = tiebreak.wait(project, lambda s: s if s["version"] == "v1" else None)
    assert labels_learned(status) == 5
    assert_all_scored(admin, project, tiebreak.settle(project))

    # Annotated tasks that are imported are announced only as new tasks.
    labelled = [
        {**task, "annotations": [{"result": choice_results(label=digits.truth(task))}]}
        for task in digits.tasks(range(40, 60))
    ]
    imported = admin.import_tasks(project, labelled)
    status = tiebreak.wait(project, lambda s: s if labels_learned(s) == 25 else None)
    assert tiebreak.labels(project)[imported[0]] == ("agreed", [digits.truth(labelled[0])])
    assert_all_scored(admin, project, tiebreak.settle(project))


def test_tasks_come_and_go(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    ids = digits.add_tasks(project, range(40))
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)
    digits.label_next(admin, project, 12)
    tiebreak.wait(project, labels_learned)
    tiebreak.settle(project)

    late = digits.add_tasks(project, range(40, 50))
    tiebreak.wait(project, lambda s: s["tasks"] == 50)

    def scored() -> bool:
        # Between the look and the push nothing is under way either.
        with contextlib.suppress(AssertionError):
            return late[0] in assert_all_scored(admin, project, tiebreak.settle(project))
        return False

    wait_until(scored)
    status = tiebreak.settle(project)

    # Without the webhook the trainer learns of a deletion only when its push is refused.
    for hook in admin.get("/api/webhooks/", project=project):
        admin.delete(f"/api/webhooks/{hook['id']}/")
    gone = late[0]
    admin.delete(f"/api/tasks/{gone}/")
    done = digits.label_next(admin, project, 11)
    hint = {"action": "ANNOTATIONS_CREATED", "project": {"id": project}}
    tiebreak.post("/webhook", {**hint, "task": [{"id": task} for task in done]})
    before = status["version"]
    tiebreak.wait(project, lambda s: s["version"] != before)
    assert_all_scored(admin, project, tiebreak.settle(project))
    assert gone not in {task["id"] for task in all_tasks(admin, project)}
    assert not {gone} & (set(ids) | set(done))


def test_a_config_that_changes(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    ids = digits.add_tasks(project, range(40))
    backend = connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)
    for number, task in enumerate(ids[:20]):
        admin.submit(task, label=str(number % 10))
    tiebreak.wait(project, lambda s: s["controls"][0]["labels"] == 20)
    admin.post(f"/api/ml/{backend}/train")
    tiebreak.wait(project, lambda s: labels_learned(s) == 20)
    before = tiebreak.settle(project)["version"]

    renamed = DIGIT_CONFIG.replace('value="9"', 'value="nine"').replace(
        "</Choices>", '<Choice value="none of them"/></Choices>'
    )
    admin.patch(f"/api/projects/{project}/", {"label_config": renamed})
    tiebreak.wait(project, lambda s: s["version"] != before)
    status = tiebreak.settle(project)
    [control] = status["controls"]
    assert control["classes"][-2:] == ["nine", "none of them"]
    assert control["labels"] == labels_learned(status) == 18
    assert control["outside"] == ['"9" not among the choices of the labelling config (2)']
    assert control["outside_tasks"] == [ids[9], ids[19]]
    told = tiebreak.run("status", str(project)).stderr
    assert f"{control['outside'][0]}. {control['advice']}" in told
    assert_all_scored(admin, project, status)
    held = predictions_of(admin, project, status["order"])
    assert all("9" not in choices_of(p) for predictions in held.values() for p in predictions)
    assert labels_learned(status) == 18

    # Renamed back, they are learned from again.
    before = status["version"]
    admin.patch(f"/api/projects/{project}/", {"label_config": DIGIT_CONFIG})
    tiebreak.wait(project, lambda s: s["version"] != before and labels_learned(s) == 20)
    status = tiebreak.settle(project)
    [control] = status["controls"]
    assert (control["labels"], control["outside"], control["advice"]) == (20, [], "")
    assert status["embedded"] == 40


def test_two_controls_one_of_them_multiple(
    label_studio: LabelStudioServer, tiebreak: TiebreakProcesses, digits: Digits
) -> None:
    config = """<View><Image name="image" value="$image"/>
      <Choices name="parity" toName="image">
        <Choice value="An even digit" alias="even"/><Choice value="An odd digit" alias="odd"/>
      </Choices>
      <Choices name="marks" toName="image" choice="multiple">
        <Choice value="Has a loop" alias="loop"/><Choice value="Below five" alias="low"/>
      </Choices></View>"""
    admin, project = label_studio.admin, digits.create_project("Two controls", config)
    digits.add_tasks(project, range(60))
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)
    for task in all_tasks(admin, project)[:30]:
        digit = int(digits.truth(task))
        marks = ["loop"] * (digit in (0, 6, 8, 9)) + ["low"] * (digit < 5)
        answers = {"marks": marks} if marks else {}
        admin.submit(task["id"], parity="odd" if digit % 2 else "even", **answers)
    tiebreak.wait(project, lambda s: s["controls"][0]["labels"] == 30 and labels_learned(s) > 50)
    status = tiebreak.settle(project)
    assert [(c["name"], c["multiple"]) for c in status["controls"]] == [
        ("parity", False),
        ("marks", True),
    ]
    assert_all_scored(admin, project, status)
    ticked = set()
    audit = tiebreak.audit_tasks(project)
    for task, [prediction] in predictions_of(admin, project, status["order"]).items():
        by_control = {item["from_name"]: item["value"]["choices"] for item in prediction["result"]}
        assert by_control.get("parity") in ([None] if task in audit else [["even"], ["odd"]])
        ticked |= {*by_control.get("marks", [])}
    assert ticked == {"loop", "low"}


def test_images_that_cannot_be_had_harm_no_others(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    good = digits.add_tasks(project, range(20))
    whole = (digits.folder / "0000.png").read_bytes()
    (digits.folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (digits.folder / "text.png").write_text("not an image")
    names = ("cut.png", "text.png", "missing.png")
    local = [{"data": {"image": f"/data/local-files/?d=digits/{name}"}} for name in names]
    broken = admin.import_tasks(project, [*local, {"data": {"image": "file:///etc/hostname"}}])
    backend = connect_by_hand(admin, project, tiebreak.url)

    def broken_come_last() -> bool:
        held = predictions_of(admin, project, tiebreak.status(project)["order"])
        return all([p["score"] for p in held.get(task, ())] == [1.0] for task in broken)

    wait_until(broken_come_last, 60, tiebreak.tails)
    for number, task in enumerate(good[:6]):
        admin.submit(task, label=str(number % 3))
    tiebreak.wait(project, lambda s: s["controls"] and s["controls"][0]["labels"] == 6)
    admin.post(f"/api/ml/{backend}/train")
    tiebreak.wait(project, labels_learned)
    status = tiebreak.settle(project)

    scores = assert_all_scored(admin, project, status)
    assert scores.keys() == {*good[6:], *broken}
    assert all(scores[task] == 1.0 for task in broken)
    assert all(scores[task] < 1.0 for task in good[6:])
    held = predictions_of(admin, project, status["order"])
    assert all(held[task][0]["result"] == [] for task in broken)
    audit = tiebreak.audit_tasks(project)
    assert {t for t in good[6:] if not choices_of(held[t][0])} == audit & set(good[6:])
    assert status["broken"] == 4
    reasons = dict(status["broken_images"])
    assert reasons.keys() == set(broken)
    assert all(len(reason) > 20 for reason in reasons.values())
    assert "missing.png" in reasons[broken[2]]

    # Asked directly: one entry for each task, in the order asked, whatever is wrong with some.
    tasks = all_tasks(admin, project)
    mixed = [*tasks[::-1], {"id": 987654, "data": {}}, {"data": {"image": 5}}, tasks[0]]
    body = {"tasks": mixed, "project": f"{project}.1", "label_config": DIGIT_CONFIG}
    results = tiebreak.post("/predict", body).raise_for_status().json()["results"]
    assert len(results) == len(mixed)
    for asked, entry in zip(mixed, results, strict=True):
        assert entry["model_version"] == status["order"]
        if asked.get("id") in scores:
            [stored] = held[asked["id"]]
            assert entry["score"] == stored["score"]
            assert choices_of(entry) == choices_of(stored)
    assert results[-1]["score"] == results[len(tasks) - 1]["score"]
    assert [(entry["score"], entry["result"]) for entry in results[-3:-1]] == [(1.0, [])] * 2

    # Label Studio's own action asks for the tasks that lack this version: the labelled ones.
    admin.post(
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
        {"selectedItems": {"all": True, "excluded": []}, "project": str(project)},
    )
    held = predictions_of(admin, project, status["order"])
    assert {task: len(predictions) for task, predictions in held.items()} == dict.fromkeys(
        [*good, *broken], 1
    )
    assert {t for t in good if not choices_of(held[t][0])} == audit & set(good)


def test_health_answers_while_images_are_embedded_and_heads_fitted(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    digits.add_tasks(project, range(150, 210))
    backend = connect_by_hand(admin, project, tiebreak.url)
    for number, task in enumerate(all_tasks(admin, project)[:9]):
        admin.submit(task["id"], label=str(number))
    tiebreak.wait(project, lambda s: s["controls"] and s["controls"][0]["labels"] == 9)
    admin.post(f"/api/ml/{backend}/train")
    seconds = []
    with httpx.Client(base_url=tiebreak.url, trust_env=False) as client:
        for _ in range(30):
            began = time.monotonic()
            assert client.get("/health").json()["status"] == "UP"
            seconds.append(time.monotonic() - began)
            time.sleep(0.05)
    assert statistics.median(seconds) < 1
    tiebreak.wait(project, labels_learned)
    assert_all_scored(admin, project, tiebreak.settle(project))


def test_a_config_with_nothing_to_learn_is_refused_in_words(
    label_studio: LabelStudioServer,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
) -> None:
    text = '<View><Text name="t" value="$image"/><TextArea name="x" toName="t"/></View>'
    admin = label_studio.admin
    refused = admin.create_project("Only text", text)
    with pytest.raises(httpx.HTTPStatusError, match="nothing to learn"):
        connect_by_hand(admin, refused, tiebreak.url)

    # A project that was fine when it was connected says so itself.
    project = digit_project
    digits.add_tasks(project, range(5))
    connect_by_hand(admin, project, tiebreak.url)
    tiebreak.settle(project)
    admin.patch(f"/api/projects/{project}/", {"label_config": text})
    problem = tiebreak.wait(project, lambda s: s["config_problem"])
    assert "nothing to learn" in problem
    admin.patch(f"/api/projects/{project}/", {"label_config": DIGIT_CONFIG})
    tiebreak.wait(project, lambda s: not s["config_problem"])
    assert_all_scored(admin, project, tiebreak.settle(project))


def test_a_deleted_project_holds_up_no_other(
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    admin = label_studio.admin
    tiebreak = start_tiebreak(label_studio, TIEBREAK_POLL_SECONDS="0.5")
    doomed = digits.create_project("Doomed")
    digits.add_tasks(doomed, range(5))
    connect_by_hand(admin, doomed, tiebreak.url)
    tiebreak.wait(doomed, lambda s: s["served"] == "v0")
    admin.delete_project(doomed)
    tiebreak.wait(doomed, lambda s: "no longer exists" in s["waiting"])
    digits.add_tasks(digit_project, range(5))
    connect_by_hand(admin, digit_project, tiebreak.url)
    tiebreak.wait(digit_project, lambda s: s["served"] == "v0")
