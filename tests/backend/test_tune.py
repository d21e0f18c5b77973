"""``tiebreak tune``, for real on small images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.settings import Settings, load_settings
from backend.tune import Judged, ranked
from backend.tune_table import gain_sentence
from backend.tuning_options import TUNED, tuning_options
from backend.winner_file import write_winner
from model.finetune_options import FineTuneOptions
from tests.backend.experiments import save_arrays, start, stopped_when

OPTIONS = (
    "tune", "shapes.npz", "--backbone", "mobilenet_v3_small", "--input-size", "32",
    "--labels", "60", "--epochs", "2",
)  # fmt: skip


@pytest.fixture
def here(here: Path) -> Path:
    save_arrays(here / "shapes.npz", test=3)
    return here


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*OPTIONS, *arguments])


def shown(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def same(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: trial[name] for name in trial if name != "seconds"} for trial in trials]


def test_a_search_its_winner_and_its_end(here: Path) -> None:
    result = run("--trials", "3")
    assert result.exit_code == 0, result.output
    assert "defaults" in result.stdout
    lines = (here / "winner.env").read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert values["TIEBREAK_BACKBONE"] == "mobilenet_v3_small"
    assert len(values) == 3 + len(TUNED)
    again = shown(run("--trials", "3", "--json"))
    assert len(again["trials"]) == 3
    first = again["trials"][0]
    assert first["defaults"]
    assert first["options"]["epochs"] == 2
    best = min((t for t in again["trials"] if t["log_loss"]), key=lambda t: t["log_loss"])
    assert again["winner"] == best
    assert again["judged_on"] == 12


def test_a_killed_search_comes_to_the_same_trials(here: Path, seeded_weights: Path) -> None:
    whole = shown(run("--trials", "3", "--storage", "whole.db", "--json"))["trials"]
    process = start(here, seeded_weights, *OPTIONS, "--trials", "3")
    stopped_when(lambda: list(here.glob("tune.db.*.unfinished")), process, signal.SIGKILL)
    found = shown(run("--trials", "3", "--json"))["trials"]
    assert same(found) == same(whole)
    assert not list(here.glob("*.unfinished"))


def test_the_winner_is_read_as_settings(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "optimiser": "sgd",
        "backbone_rate": 0.00123,
        "head_rate": 0.5,
        "momentum": 0.75,
        "epochs": 7,
        "weight_decay": 1.5e-05,
        "augmentation_strength": 1.25,
    }
    evil = "a name\nTIEBREAK_PORT=1"
    write_winner(here / "w.env", options, {"backbone": "resnet18", "input_size": 96}, [evil])
    loaded = subprocess.run(
        ["sh", "-c", "set -a; . ./w.env; set +a; env"], capture_output=True, text=True, check=True
    )
    for line in loaded.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.startswith("TIEBREAK_"):
            monkeypatch.setitem(os.environ, name, value)
    settings = load_settings()
    assert (settings.backbone, settings.input_size, settings.port) == ("resnet18", 96, 9090)
    tuned = tuning_options(settings)
    assert {name: getattr(tuned, name) for name in TUNED} == options


def test_the_settings_are_the_defaults_of_a_fine_tune() -> None:
    settings = Settings()
    assert tuning_options(settings) == FineTuneOptions()
    assert set(TUNED) <= {field.name for field in fields(FineTuneOptions)}


def judged(number: int, loss: float | None, *, defaults: bool = False) -> Judged:
    ended = "pruned" if loss is None else "complete"
    return Judged(number, ended, {}, defaults, loss, 0.8, 0.7, 0.9, 1.0)


def test_the_best_is_the_least_log_loss() -> None:
    trials = [judged(0, 0.5, defaults=True), judged(1, None), judged(2, 0.4), judged(3, 0.4)]
    assert [trial.number for trial in ranked(trials)] == [2, 3, 0]
    assert "Log loss 0.4000 instead of 0.5000" in gain_sentence(trials, 12)
    better = [replace(trials[0], log_loss=0.1), *trials[1:]]
    assert "were not beaten: log loss 0.1000" in gain_sentence(better, 12)
    assert gain_sentence([judged(0, None)], 12) == "No trial came to its end."


def test_a_file_that_is_no_study(here: Path) -> None:
    (here / "tune.db").write_text("no database at all, but some text " * 100)
    result = run("--trials", "1")
    assert result.exit_code == 1
    assert "cannot be used as a study" in result.stderr
    assert "Traceback" not in result.output


def test_a_network_without_weights_is_not_tuned(here: Path) -> None:
    result = run("--backbone", "small_cnn")
    assert result.exit_code == 1
    assert "no pretrained weights" in result.stderr
