"""Fine-tunes as the tables have them, and as people read of them."""

from __future__ import annotations

import json
import threading
import time

import pytest
from typer.testing import CliRunner, Result

from backend.app import create_app
from backend.cli import app
from backend.finetunes import (
    CANCELLED,
    EMBEDDING,
    FAILED,
    JUDGING,
    PROMOTED,
    REFUSED,
    TRAINING,
    WAITING,
    cancel_fine_tune,
    duration,
    last_ended,
    newest_fine_tune,
    sentence,
    under_way,
    want_fine_tune,
)
from backend.hints import newest_hints
from backend.lease import Leases
from backend.settings import Settings
from backend.store import Store
from backend.tables import FineTune
from tests.backend.conftest import Tables
from tests.callers import logged_in


def _row(state: str, **values: object) -> FineTune:
    plain = {"labels": 812, "reason": "", "progress": {}, "cancel": False}
    return FineTune(project_id=1, state=state, wanted_at=0.0, **{**plain, **values})


AT = {"epoch": 3, "epochs": 12, "eta_seconds": 236.0}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (_row(WAITING), "a fine-tune begins"),
        (
            _row(WAITING, reason="project 2 comes first"),
            "the fine-tune waits: project 2 comes first",
        ),
        (_row(TRAINING), "fine-tuning on 812 labels"),
        (
            _row(TRAINING, progress={"phase": "reading images", "epoch": 0}),
            "fine-tuning on 812 labels: reading images",
        ),
        (
            _row(TRAINING, progress=AT),
            "fine-tuning on 812 labels: epoch 3 of 12, about 4 min left",
        ),
        (
            _row(TRAINING, progress=AT, reason="No memory was left."),
            "fine-tuning on 812 labels, once more after a failure (No memory was left): "
            "epoch 3 of 12, about 4 min left",
        ),
        (_row(TRAINING, progress=AT, cancel=True), "the fine-tune is being cancelled"),
        (_row(JUDGING), "fine-tuned on 812 labels; embedding the labelled images with it"),
        (
            _row(EMBEDDING, progress={"embedded": 64, "images": 900}),
            "fine-tuned on 812 labels; embedding all images with it: 64 of 900",
        ),
        (_row(PROMOTED), "fine-tuned on 812 labels"),
        (_row(REFUSED), "the fine-tune on 812 labels was refused"),
        (_row(FAILED, reason="No memory was left."), "the fine-tune failed: No memory was left"),
        (_row(CANCELLED), "the fine-tune was cancelled"),
    ],
)
def test_how_it_stands_in_words(row: FineTune, said: str) -> None:
    assert sentence(row) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "1 s"), (40.4, "40 s"), (89, "89 s"), (91, "2 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_lengths_of_time(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def _end(store: Store, number: int, state: str, **values: object) -> None:
    with store.write() as session:
        row = session.get_one(FineTune, number)
        row.state, row.finished_at = state, time.time()
        for name, value in values.items():
            setattr(row, name, value)


def test_one_is_under_way_at_a_time(tables: Tables, store: Store) -> None:
    first, new = want_fine_tune(store, 1, asked=True)
    assert new
    assert list(newest_hints(store)) == [1]
    assert want_fine_tune(store, 1, asked=False) == (first, False)
    assert cancel_fine_tune(store, 1) == first
    with store.read() as session:
        row = under_way(session, 1)
    assert row is not None
    assert (row.asked, row.cancel) == (True, True)
    _end(store, first, CANCELLED, base="a", labels=30)
    assert cancel_fine_tune(store, 1) is None
    second, new = want_fine_tune(store, 1, asked=False)
    assert new
    assert second > first
    with store.read() as session:
        newest, ended = newest_fine_tune(session, 1), last_ended(session, 1, "a")
        assert last_ended(session, 1, "another network") is None
    assert newest is not None
    assert ended is not None
    assert (newest.id, ended.id) == (second, first)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings, store: Store) -> None:
    """The command line finds the test's database and a trainer that shows signs of life."""
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    Leases(store, "alive", 300).beat()


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def _answer(store: Store, state: str, **values: object) -> threading.Thread:
    """Do what the trainer does to the table once somebody asks."""

    def work() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with store.read() as session:
                row = under_way(session, 1)
            if row is not None and (state != CANCELLED or row.cancel):
                _end(store, row.id, state, labels=60, **values)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.usefixtures("environment", "tables")
def test_the_command_waits_for_what_comes_of_it(store: Store) -> None:
    trainer = _answer(store, PROMOTED, version=4, reason="Kept: as good.")
    result = _run("train", "1", "--finetune", "--json")
    trainer.join()
    found = json.loads(result.stdout)
    assert (found["version"], found["kept"], found["finetune"]["state"]) == ("v4", True, PROMOTED)
    assert found["sentence"] == "v4: fine-tuned on 60 labels. Kept: as good."


@pytest.mark.usefixtures("environment", "tables")
def test_the_command_fails_with_the_fine_tune(store: Store) -> None:
    trainer = _answer(store, FAILED, reason="9 images; at least 20 are needed.")
    result = _run("train", "1", "--finetune")
    trainer.join()
    assert result.exit_code == 1
    assert "at least 20 are needed" in result.stderr


@pytest.mark.usefixtures("environment", "tables")
def test_the_command_asks_joins_and_cancels(store: Store) -> None:
    asked = json.loads(_run("train", "1", "--finetune", "--no-wait", "--json").stdout)
    joined = _run("train", "1", "--finetune", "--no-wait", "--json")
    assert json.loads(joined.stdout)["finetune"] == asked["finetune"]
    assert "under way already" in joined.stderr
    assert "a fine-tune begins" in _run("status").stderr
    trainer = _answer(store, CANCELLED, reason="Cancelled. v1 serves as before.")
    result = _run("train", "1", "--cancel")
    trainer.join()
    assert result.stdout.strip().endswith("Cancelled. v1 serves as before.")
    nothing = json.loads(_run("train", "1", "--cancel", "--json").stdout)
    assert nothing["status"] == "nothing to cancel"
    assert _run("train", "1", "--cancel", "--finetune").exit_code == 1


def test_without_a_trainer(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tables: Tables, store: Store
) -> None:
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    refused = _run("train", "1", "--finetune")
    assert (refused.exit_code, "No trainer is running" in refused.stderr) == (1, True)
    want_fine_tune(store, 1, asked=True)
    found = json.loads(_run("train", "1", "--cancel", "--json").stdout)
    assert found["status"] == "asked"
    assert "the next trainer" in found["sentence"]


def test_the_page_shows_it_beside_what_is_done(
    tables: Tables, store: Store, settings: Settings
) -> None:
    number, _ = want_fine_tune(store, 1, asked=True)
    with store.write() as session:
        row = session.get_one(FineTune, number)
        row.state, row.labels, row.progress = TRAINING, 812, AT
    server = create_app(settings)
    with logged_in(server) as client:
        page = client.get("/").text
        project = client.get("/api/projects/1").get_json()
    server.extensions["tiebreak"].store.close()
    assert "Fine-tuning on 812 labels: epoch 3 of 12, about 4 min left." in page
    assert '<progress max="12" value="2" aria-label="epochs of the fine-tune">' in page
    assert project["finetune"]["progress"] == AT
