from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.hints import pending_look
from backend.lease import Leases
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from tests.backend.conftest import Tables


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    monkeypatch.setenv("COLUMNS", "200")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def _answer_training(store: Store, *, version: int | None) -> None:
    """Do what the trainer does to the tables once somebody asks for a training."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with store.write() as session:
            project = session.get_one(Project, 1)
            if project.train_requested_at is None:
                continue
            if version is not None:
                session.add(
                    Version(
                        project_id=1,
                        number=version,
                        created_at=0.0,
                        kept=True,
                        reason="Kept: there is no version to compare it with.",
                        labels=12,
                        backbone="b",
                        metrics={},
                    )
                )
                project.champion = version
            project.train_requested_at = None
            return
        time.sleep(0.05)


@pytest.mark.parametrize("name", [None, *sorted(get_command(app).commands)])  # type: ignore[attr-defined]
def test_no_flag_is_shown_with_a_type(name: str | None) -> None:
    text = _run(*filter(None, [name]), "--help").output
    assert "--help" in text
    assert "<bool>" not in text


def test_help_says_where_settings_and_weights_are() -> None:
    served = " ".join(_run("serve", "--help").output.split())
    assert "TIEBREAK_HOST and TIEBREAK_PORT: see docs/settings.md" in served
    trainer = " ".join(_run("trainer", "--help").output.split())
    assert "TIEBREAK_WEIGHTS_DIR names a folder with weights, see docs/backbones.md" in trainer


def test_help_names_every_command() -> None:
    text = _run("--help").output
    for command in ("up", "serve", "trainer", "connect", "status", "train", "versions"):
        assert f" {command} " in text


def test_status_of_nothing(store: Store) -> None:
    result = _run("status", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"trainer_alive": False, "projects": []}


def test_status_of_nothing_says_where_it_looked(settings: Settings, store: Store) -> None:
    result = _run("status")
    assert result.exit_code == 0
    assert str(settings.data_dir) in result.stderr
    assert "tiebreak connect PROJECT" in result.stderr


def test_status_tells_trouble_in_full(tables: Tables) -> None:
    trouble = "Label Studio refuses the token. " * 8
    with tables.store.write() as session:
        session.get_one(Project, 1).error = trouble.strip()
    result = _run("status")
    assert "trouble, see below" in result.stdout
    assert f"1 Test: {trouble.strip()}" in result.stderr


def test_status_of_a_project(tables: Tables) -> None:
    tables.clusters(6)
    tables.label(1, "cat")
    found = json.loads(_run("status", "Test", "--json").stdout)
    (project,) = found["projects"]
    assert (project["tasks"], project["unlabelled"], project["version"]) == (6, 5, "v0")
    assert project["controls"][0]["labels"] == 1
    text = _run("status").output
    assert "1 Test" in text
    assert "No trainer is running. Start one: tiebreak trainer" in text


def test_a_project_that_no_trainer_has_looked_at_is_not_up_to_date(
    tables: Tables, store: Store
) -> None:
    text = _run("status").stdout
    assert "no trainer has run yet" in text
    assert "up to date" not in text
    with store.write() as session:
        session.get_one(Project, 1).looked_at = 1.0
    assert "up to date" in _run("status").stdout


def test_an_unknown_project_names_the_known_ones(tables: Tables) -> None:
    result = _run("status", "Nobody")
    assert result.exit_code == 1
    assert "connected: 1 “Test”" in result.stderr
    assert result.stdout == ""
    error = json.loads(_run("train", "Nobody", "--json").stdout)
    assert set(error) == {"error", "mend"}


def test_train_without_a_trainer(tables: Tables) -> None:
    result = _run("train", "1")
    assert result.exit_code == 1
    assert "No trainer is running" in result.stderr


@pytest.mark.parametrize("version", [1, None])
def test_train_waits_for_the_outcome(tables: Tables, store: Store, version: int | None) -> None:
    Leases(store, "alive", 30).beat()
    trainer = threading.Thread(target=_answer_training, args=(store,), kwargs={"version": version})
    trainer.start()
    result = _run("train", "1", "--json")
    trainer.join()
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    assert outcome["version"] == (f"v{version}" if version else None)
    assert pending_look(store, 1) is not None


def test_train_need_not_wait(tables: Tables, store: Store) -> None:
    Leases(store, "alive", 30).beat()
    found = json.loads(_run("train", "1", "--no-wait", "--json").stdout)
    assert (found["project"], found["status"]) == (1, "asked")
    assert tables.project().train_requested_at is not None


def test_a_bad_setting_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEBREAK_PORT", "none")
    result = _run("serve")
    assert result.exit_code == 1
    assert "TIEBREAK_PORT='none'" in result.stderr
    assert "Traceback" not in result.output


def test_connect_says_that_label_studio_does_not_answer() -> None:
    result = _run("connect", "1")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.output


def test_a_database_that_cannot_be_opened_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "not-a-database.db").write_bytes(b"x" * 5000)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/not-a-database.db")
    result = _run("status")
    assert result.exit_code == 1
    assert "The database failed" in result.stderr
    assert "DATABASE_URL" in result.stderr
