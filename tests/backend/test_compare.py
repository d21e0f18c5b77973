"""``tiebreak compare``, for real on small images."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.compare_backbones import Trial, plan_trials
from backend.compare_page import PageText, comparison_page
from backend.errors import SetupError
from backend.results_file import ResultsFile, key_of
from tests.backend.experiments import CLASSES, save_arrays, save_folders, start, stopped_when

SMALL = ("--input-size", "32", "--epochs", "1")
ONE = ("--backbones", "mobilenet_v3_small", "--modes", "features")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def test_every_way_and_a_network_from_scratch(here: Path) -> None:
    data = save_arrays(here / "shapes.npz")
    names = "mobilenet_v3_small,small_cnn,resnet18"
    result = run(str(data), "--backbones", names, *SMALL, "--out", "page.html", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["labels"], found["test"], found["classes"]) == (60, 120, list(CLASSES))
    rows = {(row["backbone"], row["mode"]): row for row in found["rows"]}
    good = {key: row for key, row in rows.items() if not row["error"]}
    assert list(good) == [
        ("mobilenet_v3_small", "features"),
        ("mobilenet_v3_small", "features+augment"),
        ("mobilenet_v3_small", "finetune"),
        ("small_cnn", "scratch"),
    ]
    for row in good.values():
        accuracy = row["metrics"]["accuracy"]
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
        assert accuracy["n"] == 120
        assert row["parameters"] >= row["trainable"] > 0
    assert rows["mobilenet_v3_small", "features"]["metrics"]["accuracy"]["value"] > 0.8
    for mode in ("features", "features+augment", "finetune"):
        assert "No pretrained weights for resnet18" in rows["resnet18", mode]["error"]
    page = (here / "page.html").read_text(encoding="utf-8")
    assert "No pretrained weights for resnet18" in page
    assert "accuracy" in result.stderr


def test_folders_as_a_table(here: Path) -> None:
    data = save_folders(here / "shapes")
    (data / "dark" / "broken.png").write_bytes(b"broken")
    result = run(str(data), *ONE, "--labels", "30", "--test", "12", *SMALL)
    assert result.exit_code == 0, result.output
    assert "mobilenet_v3_small" in result.stdout
    assert "12 to test on, held out from the rest" in result.stderr
    assert (here / "comparison.html").stat().st_size > 1_000_000


def test_what_is_done_is_not_done_again(here: Path) -> None:
    data = str(save_arrays(here / "shapes.npz"))
    first = json.loads(run(data, *ONE, *SMALL, "--json").stdout)["rows"]
    again = run(data, *ONE, *SMALL, "--json")
    assert "from an earlier run" in again.stderr
    repeated = json.loads(again.stdout)["rows"]
    assert [row | {"earlier": False} for row in repeated] == first
    for change in (["--seed", "5"], ["--labels", "30"], ["--test", "60"], ["--input-size", "64"]):
        other = json.loads(run(data, *ONE, *SMALL, *change, "--json").stdout)["rows"]
        assert not other[0]["earlier"], change
    fresh = json.loads(run(data, *ONE, *SMALL, "--fresh", "--json").stdout)["rows"]
    assert not fresh[0]["earlier"]
    assert fresh[0]["metrics"] == first[0]["metrics"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on(here: Path, seeded_weights: Path, how: signal.Signals) -> None:
    save_arrays(here / "shapes.npz")
    results = here / "page.results.jsonl"
    arguments = ("compare", "shapes.npz", "--backbones", "mobilenet_v3_small,small_cnn")
    options = ("--modes", "features", "--input-size", "32", "--epochs", "200", "--out", "page.html")
    process = start(here, seeded_weights, *arguments, *options)
    # The second row takes long: it is stopped inside.
    stdout, stderr = stopped_when(
        lambda: results.exists() and list(here.glob("page.results.*.unfinished")), process, how
    )
    if how == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "The same command goes on from here" in stderr
        assert "mobilenet_v3_small" in stdout
    rows = ResultsFile(results).rows()
    assert [row["backbone"] for row in rows.values()] == ["mobilenet_v3_small"]
    assert "1 rows are not done yet" in (here / "page.html").read_text(encoding="utf-8")
    again = run(
        "shapes.npz", "--backbones", "mobilenet_v3_small", *options[:4], "--out", "page.html",
        "--json",
    )  # fmt: skip
    assert json.loads(again.stdout)["rows"][0]["earlier"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "There is no file or folder nowhere"),
        (("shapes.npz", "--backbones", "magic"), "--backbones names magic"),
        (("shapes.npz", "--modes", "magic"), "--modes names magic"),
        (("shapes.npz", "--modes", "scratch"), "There is nothing to compare"),
        (("shapes.npz", *ONE, "--augmentation", "magic"), "augmentation='magic'"),
        (("shapes.npz", *ONE, *SMALL, "--out", "no/where.html"), "cannot be written"),
        (("shapes.npz", "--backbones", "resnet18"), "every row failed"),
    ],
)
def test_what_cannot_be_is_a_sentence(here: Path, arguments: tuple[str, ...], said: str) -> None:
    save_arrays(here / "shapes.npz", train=30, test=30)
    result = run(*arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_every_backbone_meets_every_mode_once() -> None:
    trials = plan_trials(["small_cnn", "resnet18", "resnet18"], ["finetune", "features"])
    assert trials == (
        Trial("small_cnn", "scratch"),
        Trial("resnet18", "features"),
        Trial("resnet18", "finetune"),
    )
    with pytest.raises(SetupError):
        plan_trials([], [])


keys = st.text("0123456789abcdef", min_size=1, max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v, max_size=3)
)


@given(rows=st.lists(st.tuples(keys, values), max_size=6), cut=st.integers(0, 30))
def test_a_results_file_that_was_cut_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]], cut: int
) -> None:
    results = ResultsFile(tmp_path_factory.mktemp("results") / "r.jsonl")
    for key, value in rows:
        results.add({"key": key, "value": value})
    assert results.rows() == {key: {"key": key, "value": value} for key, value in rows}
    if rows and cut:
        data = results.path.read_bytes()
        results.path.write_bytes(data[: max(0, len(data) - 1 - cut)])
    before = results.rows()
    results.add({"key": "new", "value": 1})
    assert results.rows() == before | {"new": {"key": "new", "value": 1}}


@given(st.dictionaries(st.text(), values))
def test_equal_descriptions_have_equal_keys(description: dict[str, Any]) -> None:
    turned = dict(reversed(description.items()))
    assert key_of(description) == key_of(turned)
    assert key_of(description | {"more": 1}) != key_of(description | {"more": 2})


def test_nothing_in_a_row_becomes_markup() -> None:
    evil = "</script><script>alert(1)</script>"
    row = {"backbone": evil, "mode": "features", "input_size": 32, "error": evil, "mend": ""}
    page = comparison_page(PageText(evil, evil, evil), [row])
    assert evil not in page
