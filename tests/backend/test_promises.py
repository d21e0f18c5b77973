"""Promises after the command: their checks in the queue, how they stand, and how they pause."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask.testing import FlaskClient
from typer.testing import CliRunner

from backend.auto_label import take_back
from backend.auto_marks import marked
from backend.cli import app
from backend.labels import parse_annotation
from backend.labelstudio import LabelStudio
from backend.metrics_database import DatabaseFigures
from backend.ordering import CHECK_PACE
from backend.promise_steps import PromiseSteps
from backend.promises import automatic_tasks, checks_of
from backend.settings import Settings
from backend.standing import count, standing, why_due
from backend.store import Store
from backend.sync import look_at_everything, look_at_tasks
from backend.tables import Label, Task
from model.audit import audit_place
from tests.backend.auto_studio import AUDIT, CHECK, CLASSES, AutoStudio
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.loop_project import MakeLoop
from tests.backend.queue_of import make_anew, order_of, plan
from tests.backend.small_label_studio import SmallLabelStudio


@pytest.fixture
def promised(
    tables: Tables,
    settings: Settings,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> AutoStudio:
    """Answers are accepted under one promise; nobody has labelled a check."""
    made = AutoStudio(tables, settings, small_label_studio, small_client)
    made.settings = made.settings.model_copy(update={"queue_head": 3, "strategy": "margin"})
    small_label_studio.project["label_config"] = tables.project().label_config
    return made


def _due(studio: AutoStudio) -> str:
    order = order_of(studio.tables, studio.settings)
    with studio.tables.store.read() as session:
        counts = count(session, 1, BACKBONE)
        now = standing(session, studio.tables.project(), studio.settings, counts)
        return why_due(session, 1, order, now)


def _label(studio: AutoStudio, task: int, choice: str) -> None:
    studio.tables.label(task, choice)
    with studio.tables.store.write() as session:
        row = session.get_one(Task, (1, task))
        row.annotations, row.labelled_at = 1, 4e9


def test_checks_come_forward_evenly_and_without_a_tick(promised: AutoStudio) -> None:
    studio = promised
    before = plan(studio.tables, studio.settings).predictions
    assert all(prediction.result for _, prediction in before)
    assert _due(studio) == ""
    assert {one.task_id for one in studio.plan().checks} == studio.checks
    studio.begin()
    checks = sorted(studio.checks, key=lambda task: audit_place(digest_of(task)))
    assert _due(studio) == "a promise leaves images to people as a check"
    make_anew(studio.tables, studio.settings)
    assert _due(studio) == ""
    queue = plan(studio.tables, studio.settings).predictions
    # One in five: the middle of each five.
    places = [place for place, (task, _) in enumerate(queue) if task in studio.checks]
    assert places[:10] == [2 + 5 * n for n in range(10)]
    assert [queue[place][0] for place in places] == checks
    assert {task for task, prediction in queue if not prediction.result} == studio.checks
    assert not studio.checks & set(order_of(studio.tables, studio.settings).picks)
    # Three of the next ten that people label are checks, so the next one can wait a little.
    others = sorted(studio.rest)
    for task in [*checks[:3], *others[:7]]:
        _label(studio, task, studio.truth[task])
    with studio.tables.store.read() as session:
        found = checks_of(session, 1)
    assert (found.answered, found.served, CHECK_PACE) == (3, 10, 0.2)
    make_anew(studio.tables, studio.settings)
    queue = plan(studio.tables, studio.settings).predictions
    places = [place for place, (task, _) in enumerate(queue) if task in studio.checks]
    assert places[:6] == [7 + 5 * n for n in range(6)]


def test_what_is_asked_for_a_check_has_no_tick(promised: AutoStudio, client: FlaskClient) -> None:
    studio = promised
    task = min(studio.checks)
    body = {
        "tasks": [{"id": task, "data": {"image": f"/data/{task}.png"}}],
        "project": "1.1",
        "label_config": studio.tables.project().label_config,
    }

    def choices() -> list[str]:
        [entry] = client.post("/predict", json=body).get_json()["results"]
        return [c for item in entry["result"] for c in item["value"]["choices"]]

    assert choices() == [studio.truth[task]]
    studio.begin()
    assert choices() == []
    take_back(studio.tables.store, studio.client, 1)
    assert choices() == [studio.truth[task]]


def test_automatic_labels_are_counted_by_themselves(
    promised: AutoStudio, store: Store, client: FlaskClient
) -> None:
    studio = promised
    person = min(studio.audit)
    studio.server.annotate(person, label=[studio.truth[person]])
    studio.accepting(studio.begin()).work()
    accepted = sorted(studio.held().keys() - {person})
    look_at_everything(store, studio.client, 1)
    status = client.get("/api/projects/1").get_json()
    assert (status["labelled"], status["automatic"]) == (1, len(accepted))
    assert status["tasks"] == 1 + status["automatic"] + status["unlabelled"]
    with store.read() as session:
        assert automatic_tasks(session, 1).tolist() == accepted
    page = client.get("/projects/1").get_data(as_text=True)
    assert f"{len(accepted)} tasks were labelled by Tiebreak alone" in page
    assert "tiebreak auto-label 1 --undo" in page
    assert "labelled automatically" in page
    assert "is paused" not in page

    # A person changes one, confirms another, deletes a third; a fourth task is gone.
    changed, confirmed, deleted, gone = accepted[:4]
    notes = {task: studio.server.tasks[task]["annotations"] for task in accepted[:4]}
    other = next(c for c in CLASSES if c != studio.truth[changed])
    notes[changed][0]["result"][0]["value"] = {"choices": [other]}
    notes[confirmed][0] |= {"lead_time": 3.5, "updated_by": 7}
    studio.server.withdraw(notes[deleted][0]["id"])
    del studio.server.tasks[gone]
    look_at_tasks(store, studio.client, 1, accepted[:4])
    [standing_now] = studio.statuses()
    assert (standing_now.accepted, standing_now.changed) == (len(accepted) - 4, 4)
    status = client.get("/api/projects/1").get_json()
    assert (status["labelled"], status["automatic"]) == (3, len(accepted) - 4)
    with store.read() as session:
        labels = {row.task_id: row.choices for row in session.query(Label) if row.status != "gone"}
    assert labels == {
        person: [studio.truth[person]],
        changed: [other],
        confirmed: [studio.truth[confirmed]],
    }
    # What is taken back is what nobody has touched.
    assert take_back(store, studio.client, 1) == len(accepted) - 4
    assert studio.held().keys() == {person, changed, confirmed}
    assert client.get("/api/projects/1").get_json()["automatic"] == 0
    assert "Automatic labels" not in client.get("/projects/1").get_data(as_text=True)


def test_an_answer_that_comes_to_light_later_stands_again(
    promised: AutoStudio, store: Store
) -> None:
    """A look that read Label Studio just before the answer was written does not see it."""
    studio = promised
    studio.accepting(studio.begin()).work()
    task = min(studio.held())
    kept = studio.server.tasks[task]["annotations"]
    studio.server.tasks[task]["annotations"] = []
    look_at_tasks(store, studio.client, 1, [task])
    assert studio.statuses()[0].changed == 1
    studio.server.tasks[task]["annotations"] = kept
    look_at_tasks(store, studio.client, 1, [task])
    assert studio.statuses()[0].changed == 0


def test_who_changes_or_confirms_an_answer_has_given_it() -> None:
    item = {"from_name": "a", "to_name": "b", "type": "choices", "value": {"choices": ["cat"]}}
    result = marked(5, 1, [item])
    made: dict[str, Any] = {"id": 1, "result": result, "completed_by": 1, "updated_by": 1}
    made |= {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    assert parse_annotation(made, 5).automatic
    later = {**made, "updated_by": 2, "updated_at": "2026-02-01T00:00:00Z"}
    # Label Studio touches annotations by itself: that alone says nothing.
    assert parse_annotation(later, 5).automatic
    confirmed = parse_annotation({**later, "lead_time": 2.5}, 5)
    other = [{**result[0], "value": {"choices": ["dog"]}}]
    changed = parse_annotation({**later, "result": other}, 5)
    for found in (confirmed, changed):
        assert found.counts
        assert (found.completed_by, found.created_at) == (2, "2026-02-01T00:00:00Z")
    skipped = parse_annotation({**later, "was_cancelled": True}, 5)
    assert not skipped.automatic
    assert skipped.completed_by == 2
    # Those of people stay whose they are, whoever edits them.
    own = parse_annotation({**later, "result": [item]}, 5)
    assert (own.completed_by, own.created_at) == (1, made["created_at"])


def test_a_promise_pauses_itself_when_labels_come(
    promised: AutoStudio,
    store: Store,
    make_loop: MakeLoop,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    studio, steps = promised, PromiseSteps(make_loop().tools, 1)
    assert not steps.promise()
    run = studio.begin()
    studio.accepting(run).work()

    def figures() -> dict[tuple[str, str], float]:
        found = {family.name: family.samples for family in DatabaseFigures(store, 30).collect()}
        samples = found["tiebreak_promises"] + found["tiebreak_automatic_labels"]
        return {(s.name[9:], s.labels.get("state", "")): s.value for s in samples}

    stands = {("automatic_labels", ""): float(len(studio.held())), ("promises", "done"): 1.0}
    none = {("promises", "accepting"): 0.0, ("promises", "paused"): 0.0}
    assert figures() == stands | none
    checks = sorted(studio.checks)
    with caplog.at_level(logging.WARNING, "backend.promise_steps"):
        for task in checks[:5]:
            wrong = next(c for c in CLASSES if c != studio.truth[task])
            _label(studio, task, wrong)
            paused = steps.promise()
            if paused:
                break
            assert caplog.records == []
        # Two of two wrong at 20%: a mean ratio of 12; three of three: 61.
        assert (paused, task) == (True, checks[2])
        assert not steps.promise()
    [record] = caplog.records
    said = "People differ on 3 of the 3 images that were left to them as a check; 20% were "
    assert record.getMessage() == f"project 1: promise {run} is paused: {said}promised at most."
    assert figures() == {**stands, **none, ("promises", "done"): 0, ("promises", "paused"): 1}
    page = client.get("/projects/1").get_data(as_text=True)
    assert f"Promise {run} is paused, and nothing more is accepted." in page
    assert client.get("/api/projects/1/auto-label").get_json()["runs"][0]["state"] == "paused"
    # A paused promise has no checks to bring forward.
    with store.read() as session:
        assert checks_of(session, 1).runs == ()


def test_label_studio_goes_down_in_the_middle(
    promised: AutoStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = promised
    for name, value in {
        "TIEBREAK_DATA_DIR": str(studio.settings.data_dir),
        "DATABASE_URL": studio.settings.database_address,
        "LABEL_STUDIO_URL": studio.server.url,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "TIEBREAK_AUDIT_SHARE": str(AUDIT),
        "TIEBREAK_CHECK_SHARE": str(CHECK),
    }.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["auto-label", "1", "--max-error", "0.2", *arguments])

    submit, handled = studio.server.submit, studio.server.handle_error

    def dying(task: int, annotation: dict[str, Any]) -> dict[str, Any]:
        if len(studio.held()) == 10:
            raise ConnectionResetError
        return submit(task, annotation)

    monkeypatch.setattr(studio.server, "submit", dying)
    monkeypatch.setattr(studio.server, "handle_error", lambda *_: None)
    failed = run("--yes")
    assert failed.exit_code == 1
    assert "What was accepted so far stands. The same command goes on" in failed.output
    assert "error:" in failed.output
    assert len(studio.held()) == 10
    monkeypatch.setattr(studio.server, "submit", submit)
    monkeypatch.setattr(studio.server, "handle_error", handled)
    done = run("--yes")
    assert done.exit_code == 0, done.output
    assert "of at most 20% wrong, was not finished; it is gone on with." in done.output
    assert f"done, {len(studio.held())} accepted, 0 changed by people since, 0 of" in done.output
    assert {len(each) for each in studio.held().values()} == {1}
    assert len(studio.held()) > 30

    withdraw = studio.server.withdraw

    def refusing(number: int) -> None:
        if len(studio.held()) == 20:
            raise ConnectionResetError
        withdraw(number)

    monkeypatch.setattr(studio.server, "withdraw", refusing)
    monkeypatch.setattr(studio.server, "handle_error", lambda *_: None)
    failed = run("--undo")
    assert failed.exit_code == 1
    assert "The same command goes on taking back." in failed.output
    monkeypatch.setattr(studio.server, "withdraw", withdraw)
    assert "20 annotations were deleted" in run("--undo").output
    assert studio.held() == {}
    assert "No accepted answer was left." in run("--undo").output
