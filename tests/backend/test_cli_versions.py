from __future__ import annotations

import json
import re

import pytest
from flask.testing import FlaskClient
from typer.testing import CliRunner, Result

from backend.champion import artifact_folder
from backend.cli import app
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from tests.backend.conftest import Tables
from tests.backend.prediction_keeper import PredictionKeeper
from tests.backend.served_app import client_of
from tests.backend.test_versions_page import words


@pytest.fixture(autouse=True)
def environment(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, keeper: PredictionKeeper, three: Tables
) -> None:
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", keeper.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    monkeypatch.setenv("COLUMNS", "200")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def _json(*arguments: str) -> dict[str, object]:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_versions_are_listed() -> None:
    lines = _run("versions", "Test").stdout.splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in lines[1:]] == [
        ("v3", "serves"),
        ("v2", "refused"),
        ("v1", "kept"),
    ]
    found = _json("versions", "1")
    assert [v["version"] for v in found["versions"]] == ["v3", "v2", "v1"]  # type: ignore[attr-defined]
    assert [v["serves"] for v in found["versions"]] == [True, False, False]  # type: ignore[attr-defined]


def test_a_version_takes_one_line_of_80_columns(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sure = {"value": 1.0, "low": 0.997, "high": 1.0, "n": 1234}
    _measure(store, 2, label=UNTOLD)
    _measure(store, 3, label=sure)
    with store.write() as session:
        for row in session.query(Version):
            row.reason, row.labels = "Refused: " + "a long reason " * 20, 12_345
    lines = _run("versions", "1").stdout.splitlines()
    assert len(lines) == 4
    assert "100.0% (99.7% to 100.0%) of 1,234" in lines[1]
    assert "long reason" not in " ".join(lines)
    assert "long reason" in _shown("v2")


def _measure(store: Store, number: int, **shares: dict[str, object]) -> None:
    with store.write() as session:
        row = session.get_one(Version, (1, number))
        measures = {
            name: {"held_out": {**LITTLE, "accuracy": {"n": 8, **share}}}
            for name, share in shares.items()
        }
        gate = {"challenger_accuracy": 1.0, "n": 18, "evidence": "cross-validated"}
        row.metrics = {"measures": measures, "gate": gate}


LITTLE = {"n": 8, "multiple": False, "per_class": [], "confusion": None}
UNTOLD = {"value": None, "reason": "cannot tell yet: 8 of 10 labels"}
TOLD = {"value": 0.75, "low": 0.468, "high": 0.911}


def test_accuracy_is_that_on_audit_labels_and_not_the_gate_s(store: Store) -> None:
    _measure(store, 2, label=UNTOLD)
    _measure(store, 3, label=TOLD, age=UNTOLD)
    listed = " ".join(_run("versions", "1").stdout.split())
    assert "cannot tell yet: 8 of 10 labels" in listed
    assert "label: 75.0% (46.8% to 91.1%) of 8" in listed
    assert "age: cannot tell yet" in listed
    assert "cannot tell: it was not measured" in listed
    assert "accuracy on audit labels: cannot tell yet: 8 of 10" in _shown("v2")
    assert "100.0%" not in listed + _shown("v2")


def _shown(version: str) -> str:
    return " ".join(_run("versions", "1", version).stdout.split())


def test_the_terminal_says_of_accuracy_what_the_page_says(
    measured: tuple[FlaskClient, Store, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _, settings = measured
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    read = words(page.get("/projects/1/versions").text)
    listed = " ".join(_run("versions", "1").stdout.split())
    shares = re.findall(r"right (\S+% \(\S+% to \S+%\) of \d+)", read)
    assert len(shares) == 4
    assert all(share in listed for share in shares)


def test_one_version_is_shown() -> None:
    text = _run("versions", "1", "v2").stdout
    assert "v2: refused" in text
    assert "control label: cat, dog, owl" in text
    assert "files: intact" in text
    assert _json("versions", "1", "2")["manifest"] == {"seed": 2, "strategy": "margin"}


def test_two_versions_are_compared(tables: Tables) -> None:
    assert "no held-out labels yet" in _run("versions", "1", "v1", "v3").stdout
    found = _json("versions", "1", "v1", "v3")
    assert (found["images"], found["accuracies"]) == (0, [None, None])


@pytest.mark.parametrize(
    "arguments", [("v1", "v2", "v3"), ("v1", "--prune"), ("--dry-run",), ("v1", "--dry-run")]
)
def test_what_cannot_be_asked_in_one_go(arguments: tuple[str, ...]) -> None:
    result = _run("versions", "1", *arguments)
    assert result.exit_code == 1
    assert "cannot be asked in one go" in result.stderr


def test_a_version_that_is_not_there() -> None:
    for arguments in (("versions", "1", "v9"), ("promote", "1", "v9")):
        result = _run(*arguments)
        assert result.exit_code == 1
        assert "no version v9; there are: v1, v2, v3" in result.stderr
    assert set(_json_error("promote", "1", "newest")) == {"error", "mend"}


def _json_error(*arguments: str) -> dict[str, str]:
    result = _run(*arguments, "--json")
    assert result.exit_code == 1
    return dict(json.loads(result.stdout))


def test_promote_and_roll_back(three: Tables) -> None:
    assert _run("promote", "1", "v1").stdout == "v1 serves now, instead of v3.\n"
    assert three.project().champion == 1
    again = _run("promote", "1", "v1")
    assert (again.exit_code, again.stdout) == (0, "v1 serves already.\n")
    assert _json("rollback", "1") == {
        "project": 1,
        "version": "v3",
        "before": "v1",
        "changed": True,
        "warnings": [],
    }
    assert three.project().champion == 3
    assert _run("rollback", "Test").exit_code == 0
    result = _run("rollback", "1")
    assert result.exit_code == 1
    assert "No version served before v1" in result.stderr


def test_a_refused_version_comes_with_a_warning(three: Tables) -> None:
    result = _run("promote", "1", "v2")
    assert result.exit_code == 0
    assert "The gate refused v2. Refused: worse." in result.stderr
    assert "gate" not in result.stdout
    assert three.project().champion == 2


def test_a_damaged_version_is_a_sentence(three: Tables, settings: Settings) -> None:
    (artifact_folder(settings.data_dir, 1, 1) / "model.json").write_text("{}")
    for arguments in (("promote", "1", "v1"), ("rollback", "1")):
        result = _run(*arguments)
        assert result.exit_code == 1
        assert "is damaged" in result.stderr
        assert "Traceback" not in result.output
    assert three.project().champion == 3


def test_old_versions_are_pruned(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, keeper: PredictionKeeper
) -> None:
    monkeypatch.setenv("TIEBREAK_KEEP_VERSIONS", "1")
    keeper.held = [(5, "v1")]
    planned = _json("versions", "1", "--prune", "--dry-run")
    assert (planned["removed"], planned["dry_run"]) == (["v2"], True)
    assert artifact_folder(settings.data_dir, 1, 2).exists()
    text = _run("versions", "1", "--prune").stdout
    assert f"Removed v2: {planned['bytes']:,} bytes." in text
    assert "Kept v3: serves." in text
    assert not artifact_folder(settings.data_dir, 1, 2).exists()
    assert "pruned" in _run("versions", "1").stdout


def test_the_api_marks_the_champion(settings: Settings, store: Store, three: Tables) -> None:
    with store.write() as session:
        session.get_one(Project, 1).champion = 1
    with client_of(settings) as client:
        found = client.get("/api/projects/1").get_json()
        names = client.get("/versions?project=1").get_json()["versions"]
    assert {v["version"]: v["serves"] for v in found["versions"]} == {
        "v1": True,
        "v2": False,
        "v3": False,
    }
    assert names == ["v3", "v1"]
