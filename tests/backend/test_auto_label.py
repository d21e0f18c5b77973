"""Accepting answers under a promise, on a server that keeps annotations as Label Studio does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from typer.testing import CliRunner

from backend.auto_label import Accepting, begin_run, take_back
from backend.auto_marks import marked, run_of
from backend.cli import app
from backend.errors import LeaseLost, SetupError
from backend.labels import task_labels
from backend.labelstudio import LabelStudio
from backend.promises import pause_contradicted
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of, look_at_everything
from backend.tables import AutoLabel, AutoRun, Label, Project, Task
from model.audit import in_audit
from tests.backend.auto_studio import AUDIT, CHECK, CLASSES, AutoStudio
from tests.backend.conftest import Tables, digest_of
from tests.backend.small_label_studio import SmallLabelStudio


@pytest.fixture
def studio(
    tables: Tables,
    settings: Settings,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> AutoStudio:
    return AutoStudio(tables, settings, small_label_studio, small_client)


def test_the_plan_leaves_out_audit_images_checks_and_what_is_labelled(studio: AutoStudio) -> None:
    labelled = sorted(studio.rest)[:7]
    for task in labelled:
        studio.tables.label(task, studio.truth[task])
    plan = studio.plan()
    [promise] = plan.promises
    assert promise.threshold is not None
    assert promise.errors == 0
    accepted = {one.task_id for one in plan.accepted}
    assert accepted <= studio.rest - set(labelled)
    assert len(accepted) > 30
    assert {one.task_id for one in plan.checks} <= studio.checks
    assert all(one.choice == studio.truth[one.task_id] for one in plan.accepted)
    assert [c.sureness for c in plan.accepted] == sorted(c.sureness for c in plan.accepted)
    assert plan.accepted[0].sureness >= promise.threshold
    assert all(one.sureness < promise.threshold for one in plan.below)


def test_too_few_audit_labels_are_refused(studio: AutoStudio) -> None:
    plan = studio.plan(0.02)
    [promise] = plan.promises
    assert (plan.accepted, plan.checks, promise.threshold) == ([], [], None)
    assert promise.more is not None
    said = f"take {promise.more} more audit labels at least, and 45 other"
    with studio.tables.store.write() as session, pytest.raises(SetupError, match=said):
        begin_run(session, 1, plan, 0.02, 0.95)


def test_a_class_that_is_mistaken_is_refused_by_itself(studio: AutoStudio) -> None:
    for task in studio.audit:
        if studio.truth[task] == "owl":
            studio.tables.label(task, "cat")
    plan = studio.plan(0.8, per_class=True)
    assert plan.classes == CLASSES
    assert [p.threshold is None for p in plan.promises] == [False, False, True]
    assert {one.choice for one in plan.accepted} == {"cat", "dog"}


def test_a_group_of_near_duplicates_is_accepted_as_a_whole(studio: AutoStudio) -> None:
    leader = digest_of(next(iter(sorted(studio.rest))))
    unsure = np.full(16, 0.1, dtype=np.float16)
    studio.tables.task(900, np.eye(3, 16)[0] * 2, leader=leader)
    studio.tables.task(901, unsure, leader=leader)
    for task in range(910, 960):  # the version is wrong on what it is unsure of
        studio.tables.task(task, unsure)
        if in_audit(digest_of(task), AUDIT):
            studio.tables.label(task, "owl")
    accepted = {one.task_id for one in studio.plan().accepted}
    assert len(accepted) > 20
    assert not {sorted(studio.rest)[0], 900, 901} & accepted


def test_accepting_marks_and_counts_for_nobody(studio: AutoStudio, store: Store) -> None:
    run = studio.begin()
    studio.accepting(run).work()
    held = studio.held()
    assert held.keys() <= studio.rest
    assert len(held) > 30
    assert all(len(each) == 1 and each[0].automatic for each in held.values())
    [status] = studio.statuses()
    assert (status.state, status.accepted, status.check_errors) == ("done", len(held), 0)
    before = {
        a for task in held for a in task_labels(held[task], controls_of(studio_project(store)))
    }
    assert before == set()
    studio.server.project["label_config"] = studio.tables.project().label_config
    look_at_everything(store, studio.client, 1)
    with store.read() as session:
        assert session.scalars(select(Label.task_id).where(Label.status == "agreed")).all() == []
        rows = session.scalars(select(Task).where(Task.id.in_(held))).all()
        assert {(row.annotations, row.labelled_at, row.is_labeled) for row in rows} == {
            (0, None, True)
        }


def studio_project(store: Store) -> Project:
    with store.read() as session:
        return session.get_one(Project, 1)


def test_what_a_person_changes_is_that_persons(studio: AutoStudio, store: Store) -> None:
    studio.accepting(studio.begin()).work()
    changed, *_ = sorted(studio.held())
    [annotation] = studio.server.tasks[changed]["annotations"]
    other = next(c for c in CLASSES if c != studio.truth[changed])
    annotation["result"][0]["value"] = {"choices": [other]}
    [found] = studio.held()[changed]
    assert not found.automatic
    assert task_labels([found], controls_of(studio_project(store)))["label"].choices == (other,)
    count = len(studio.held())
    assert take_back(store, studio.client, 1) == count - 1
    assert studio.held().keys() == {changed}


def test_taking_back_deletes_exactly_those_and_may_be_repeated(
    studio: AutoStudio, store: Store
) -> None:
    person = sorted(studio.audit)[0]
    studio.server.annotate(person, label=["cat"])
    studio.accepting(studio.begin()).work()
    # The tables may be lost: the marks are enough.
    with store.write() as session:
        session.query(AutoLabel).delete()
    assert take_back(store, studio.client, 1) > 30
    assert studio.held().keys() == {person}
    assert take_back(store, studio.client, 1) == 0
    assert studio.statuses() == []


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_in_the_middle_nothing_is_there_twice(studio: AutoStudio, moment: str) -> None:
    """Before the request is sent, and when Label Studio has made the annotation but not said so."""
    run, sent = studio.begin(), 0
    create = studio.client.create_annotation

    def dying(task_id: int, result: Any) -> int:
        nonlocal sent
        sent += 1
        if sent == 20:
            if moment == "after":
                create(task_id, result)
            raise Killed
        return create(task_id, result)

    studio.client.create_annotation = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        studio.accepting(run, "first").work()
    assert len(studio.held()) == 19 + (moment == "after")
    studio.client.create_annotation = create  # type: ignore[method-assign]
    studio.accepting(run, "second").work()
    with studio.tables.store.read() as session:
        query = select(AutoLabel.task_id, AutoLabel.annotation_id)
        found = session.execute(query.where(AutoLabel.run_id == run, ~AutoLabel.check))
        rows = {task: number for task, number in found}  # noqa: C416
    assert {task: [a.id for a in each] for task, each in studio.held().items()} == {
        task: [number] for task, number in rows.items()
    }


def test_a_second_annotation_that_arrives_late_is_deleted(studio: AutoStudio) -> None:
    run = studio.begin()
    create = studio.client.create_annotation

    def doubled(task_id: int, result: Any) -> int:
        create(task_id, result)
        return create(task_id, result)

    studio.client.create_annotation = doubled  # type: ignore[method-assign]
    studio.accepting(run).work()
    assert {len(each) for each in studio.held().values()} == {1}


def test_a_person_who_was_first_is_left_alone(studio: AutoStudio) -> None:
    first, gone, *_ = sorted(one.task_id for one in studio.plan().accepted)
    run = studio.begin()
    studio.server.annotate(first, label=["owl"])
    del studio.server.tasks[gone]
    studio.accepting(run).work()
    assert [a.automatic for a in studio.held()[first]] == [False]
    assert studio.statuses()[0].accepted == len(studio.held()) - 1


def test_taking_back_stops_a_command_under_way(studio: AutoStudio, store: Store) -> None:
    run = studio.begin()
    create = studio.client.create_annotation
    sent = 0

    def interrupted(task_id: int, result: Any) -> int:
        nonlocal sent
        sent += 1
        if sent == 10:
            take_back(store, studio.client, 1)
        return create(task_id, result)

    studio.client.create_annotation = interrupted  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        studio.accepting(run).work()
    assert studio.held() == {}


def test_only_one_command_accepts(studio: AutoStudio) -> None:
    run = studio.begin()
    studio.accepting(run, "first")
    with pytest.raises(SetupError, match="Another command"):
        Accepting(studio.tables.store, studio.client, run, "second", 30.0)


def test_checks_that_contradict_the_promise_pause_it(studio: AutoStudio, store: Store) -> None:
    checks = sorted(one.task_id for one in studio.plan().checks)
    studio.accepting(studio.begin()).work()
    for number, task in enumerate(checks):
        wrong = next(c for c in CLASSES if c != studio.truth[task])
        studio.tables.label(task, wrong if number < 10 else studio.truth[task])
    with store.write() as session:
        pause_contradicted(session, 1)
    [status] = studio.statuses()
    assert (status.checked, status.check_errors) == (len(checks), 10)
    assert status.state == "paused"
    assert "People differ on 10 of" in status.reason
    with pytest.raises(SetupError, match="paused"):
        studio.begin()
    take_back(store, studio.client, 1)
    with store.read() as session:
        assert {run.state for run in session.scalars(select(AutoRun))} == {"undone"}


def test_the_route_says_how_it_stands(studio: AutoStudio, client: FlaskClient) -> None:
    assert client.get("/api/projects/1/auto-label").json == {"runs": []}
    run = studio.begin()
    studio.accepting(run).work()
    [found] = client.get("/api/projects/1/auto-label").get_json()["runs"]
    assert (found["run"], found["version"], found["state"]) == (run, "v1", "done")
    assert found["accepted"] == len(studio.held())
    assert found["check_bound"] == 1
    assert client.get("/api/projects/2/auto-label").status_code == 404


def test_checks_that_agree_leave_it_alone(studio: AutoStudio, store: Store) -> None:
    checks = studio.plan().checks
    studio.accepting(studio.begin()).work()
    for one in checks:
        studio.tables.label(one.task_id, studio.truth[one.task_id])
    with store.write() as session:
        pause_contradicted(session, 1)
    [status] = studio.statuses()
    assert (status.state, status.check_errors) == ("done", 0)
    assert status.checked == status.checks > 5


def test_the_command(studio: AutoStudio, monkeypatch: pytest.MonkeyPatch) -> None:
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
        result = CliRunner().invoke(app, ["auto-label", "1", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    shown = run("--max-error", "0.2")
    assert "tasks would be accepted" in shown
    assert "just sure enough: task" in shown
    assert studio.held() == {}
    dry = json.loads(run("--max-error", "0.2", "--dry-run", "--json"))
    done = json.loads(run("--max-error", "0.2", "--yes", "--json"))
    assert done["runs"][0]["accepted"] == len(dry["accepted"]) == len(studio.held())
    assert json.loads(run("--max-error", "0.2", "--json"))["accepted"] == []
    again = CliRunner().invoke(app, ["auto-label", "1", "--max-error", "0.2", "--yes"])
    assert again.exit_code == 1
    assert "nothing to accept" in again.output
    assert json.loads(run("--undo", "--json")) == {"deleted": len(dry["accepted"])}
    assert studio.held() == {}
    bad = CliRunner().invoke(app, ["auto-label", "1", "--max-error", "1.5"])
    assert bad.exit_code == 1
    assert "--max-error is 1.5" in bad.output


TEXT = st.text(max_size=20)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.lists(TEXT, min_size=1, max_size=3), TEXT)
def test_a_mark_holds_until_the_answer_changes(
    task: int, run: int, choices: list[str], other: str
) -> None:
    item = {"from_name": "a", "to_name": "b", "type": "choices", "value": {"choices": choices}}
    result = marked(task, run, [item])
    assert run_of(task, json.loads(json.dumps(result))) == run
    assert run_of(task + 1, result) is None
    changed = [{**result[0], "value": {"choices": [*choices, other]}}]
    assert run_of(task, changed) is None
    assert run_of(task, [*result, item]) is None
    assert run_of(task, []) is None


@given(st.lists(st.dictionaries(TEXT, st.none() | TEXT | st.lists(TEXT))))
def test_other_results_have_no_mark(result: list[dict[str, Any]]) -> None:
    assert run_of(1, result) is None
