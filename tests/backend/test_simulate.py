"""``tiebreak simulate``, for real on small images."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.labelled_data import ImageSet
from backend.read_data import read_labelled_data
from backend.results_file import ResultsFile
from backend.settings import Settings, load_settings
from backend.simulate_page import PageText, simulation_page
from backend.simulation import prepare, run_key
from backend.simulation_finetune import FineTuner
from backend.simulation_plan import Plan
from backend.simulation_summary import summarise
from backend.tuning_options import tuning_options
from model.backbones import Backbone, load_backbone
from model.embed import Embedder
from model.embed_images import embed_images
from model.finetune_options import FineTuneOptions
from model.head import fit_head
from model.scenario import draw_scenario
from model.simulate import draw_prior, replay
from model.transfer import TransferOptions, transfer
from tests.backend.experiments import (
    CLASSES,
    save_arrays,
    save_folders,
    shapes,
    start,
    stopped_when,
)

SMALL = ("--backbone", "mobilenet_v3_small", "--input-size", "32")
BOTH = ("--strategies", "margin,random")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments, *SMALL])


def found(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    loaded: dict[str, Any] = json.loads(result.stdout)
    return loaded


@pytest.fixture
def network(seeded_weights: Path, tmp_path: Path) -> Backbone:
    return load_backbone(
        "mobilenet_v3_small", input_size=32, weights_dir=seeded_weights, cache_dir=tmp_path
    )


def images_of(path: Path, part: str) -> ImageSet:
    data = read_labelled_data(path, seed=0, side=288, max_pixels=10**6)
    return {"train": data.train, "test": data.test}[part]


def embedded(network: Backbone, images: ImageSet) -> NDArray[np.float16]:
    return embed_images(Embedder(network), images, "", lambda what, done, total: None)


def test_the_curves_are_those_of_replays_on_the_products_embeddings(
    here: Path, network: Backbone
) -> None:
    data = save_arrays(here / "shapes.npz")
    told = found(str(data), *BOTH, "--budgets", "10,25", "--seeds", "2", "--seed", "4")
    assert list(told)[:3] == ["data", "backbone", "runs"]
    assert (told["data"], told["backbone"]) == ("shapes.npz", "mobilenet_v3_small")
    train, test = images_of(data, "train"), images_of(data, "test")
    pool, judged = embedded(network, train), embedded(network, test)
    wanted = []
    for seed in (4, 5):
        for strategy in ("margin", "random"):
            points = replay(
                pool,
                train.targets,
                judged,
                test.targets,
                classes=CLASSES,
                strategy=strategy,
                budgets=[10, 25],
                seed=seed,
                prior=draw_prior(pool, seed),
            )
            curve = [{"labels": point.labels, "accuracy": point.accuracy} for point in points]
            wanted.append({"strategy": strategy, "seed": seed, "curve": curve})
    assert told["runs"] == wanted
    assert told["runs"][0]["curve"][-1]["accuracy"] > 0.8
    assert told["summary"] == summarise(wanted, ["margin", "random"])
    assert (told["pool"], told["test"]) == ({"4": 60, "5": 60}, 120)


def test_folders_as_a_table_and_a_page(here: Path) -> None:
    data = save_folders(here / "shapes")
    (data / "dark" / "broken.png").write_bytes(b"broken")
    arguments = (str(data), *BOTH, "--seeds", "1", "--target", "0.5", "--pool", "50", "--test", "9")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["labels", "margin", "%", "random", "%"]
    assert [line.split()[0] for line in lines[1:3]] == ["20", "50"]
    assert "labels to 50.0" in result.stdout
    assert "9 to test on, held out from the rest" in result.stderr
    assert (here / "simulation.html").stat().st_size > 1_000_000
    told = found(*arguments, "--pool", "73")
    assert [left["image"].rpartition("/")[2] for left in told["left_out"]] == ["broken.png"]
    assert told["pool"] == {"0": 72}


def test_what_is_done_is_not_done_again(here: Path) -> None:
    data = str(save_arrays(here / "shapes.npz"))
    small = ("--budgets", "10", "--seeds", "1")
    first = found(data, *BOTH, *small)
    files = sorted((here / "data").rglob("*.embeddings"))
    assert len(files) == 2
    again = run(data, *BOTH, *small, "--json")
    assert again.stderr.count("from an earlier run") == 2
    assert json.loads(again.stdout) == first
    other = run(data, "--strategies", "margin", *small, "--seed", "5", "--batch", "2")
    assert "from an earlier run" not in other.stderr
    fresh = run(data, *BOTH, *small, "--fresh", "--json")
    assert "from an earlier run" not in fresh.stderr
    assert json.loads(fresh.stdout) == first
    # The images were embedded once for all of that.
    assert sorted((here / "data").rglob("*.embeddings")) == files


def test_a_run_is_known_by_all_that_its_numbers_depend_on(
    here: Path, network: Backbone, settings: Settings
) -> None:
    data = read_labelled_data(save_arrays(here / "shapes.npz"), seed=0, side=288, max_pixels=10**6)
    tuning = FineTuneOptions()
    plan = Plan(("margin", "random"), (10, 30), (0, 1), tuning)

    def key(changed: Plan, strategy: str = "margin", seed: int = 0) -> str:
        made = prepare(data, changed, network, settings, lambda *_: None)
        return run_key(made, strategy, seed)

    keys = [
        key(plan),
        key(plan, "random"),
        key(plan, seed=1),
        *(
            key(replace(plan, **change))
            for change in (
                {"budgets": (10, 20)},
                {"batch": 3},
                {"start": 4},
                {"pool": 40},
                {"test": 60},
                {"imbalance": 2.0},
                {"label_noise": 0.2},
                {"finetune_at": (30,)},
                {"finetune_at": (30,), "tuning": replace(tuning, epochs=3)},
            )
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert key(replace(plan, strategies=("margin",), seeds=(0,))) == keys[0]
    assert key(replace(plan, tuning=replace(tuning, epochs=3))) == keys[0]


def test_projects_are_drawn_as_asked(here: Path) -> None:
    data = str(save_arrays(here / "shapes.npz"))
    told = found(
        data, "--strategies", "random", "--budgets", "5", "--imbalance", "4", "--test", "30"
    )
    # 20, 10 and 5 images of the three classes.
    assert set(told["pool"].values()) == {35}
    assert (told["test"], told["imbalance"]) == (30, 4)
    wrong = found(data, "--strategies", "random", "--budgets", "60", "--label-noise", "1")
    right = found(data, "--strategies", "random", "--budgets", "60")
    for noisy, clean in zip(wrong["runs"], right["runs"], strict=True):
        assert noisy["curve"][0]["accuracy"] < 0.4 < clean["curve"][0]["accuracy"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on(here: Path, seeded_weights: Path, how: signal.Signals) -> None:
    save_arrays(here / "shapes.npz")
    results = here / "simulation.results.jsonl"
    arguments = ("shapes.npz", "--strategies", "margin", "--budgets", "40", "--batch", "1")
    process = start(here, seeded_weights, "simulate", *arguments, "--seeds", "500", *SMALL)
    stdout, stderr = stopped_when(
        lambda: results.exists() and len(ResultsFile(results).rows()) >= 2, process, how
    )
    done = list(ResultsFile(results).rows().values())
    assert 2 <= len(done) < 500
    if how == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "The same command goes on from here" in stderr
        assert "margin" in stdout
        page = (here / "simulation.html").read_text(encoding="utf-8")
        # One may have been finished and not shown.
        (left,) = re.findall(r"(\d+) runs are not done yet", page)
        assert 500 - int(left) in (len(done) - 1, len(done))
    again = run(*arguments, "--seeds", str(len(done) + 1), "--json")
    assert again.stderr.count("from an earlier run") == len(done)
    runs = json.loads(again.stdout)["runs"]
    assert [r["seed"] for r in runs] == list(range(len(done) + 1))
    assert [r["curve"] for r in runs[:-1]] == [row["curve"] for row in done]


def test_a_fine_tune_is_that_of_a_transfer(here: Path, seeded_weights: Path) -> None:
    data = save_arrays(here / "shapes.npz")
    train, test = images_of(data, "train"), images_of(data, "test")
    options = FineTuneOptions(epochs=1, augmentation="none", seed=3)
    labelled = np.random.default_rng(0).permutation(60)[:40]

    def load() -> Backbone:
        return load_backbone(
            "mobilenet_v3_small", input_size=32, weights_dir=seeded_weights, cache_dir=here
        )

    tuner = FineTuner(load, train, test, CLASSES, options, here / "state", lambda *_: None)
    features = tuner(labelled, train.targets[labelled], False)
    assert features.trained is not None
    head = fit_head(
        features.pool[labelled],
        train.targets[labelled],
        classes=CLASSES,
        multiple=False,
        seed=3,
        honest=~features.trained[labelled],
    ).head
    moved = transfer(
        TransferOptions("finetune", options), load(), train.at(labelled), test, CLASSES
    )
    np.testing.assert_array_equal(head.probabilities(features.test), moved.probabilities)
    assert features.trained.any()
    assert not np.setdiff1d(np.flatnonzero(features.trained), labelled).size
    assert features.pool.any(axis=1).all()


def test_a_replay_goes_on_with_the_tuned_features(
    here: Path, seeded_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save_arrays(here / "shapes.npz")
    for name, value in (("EPOCHS", "3"), ("BACKBONE_RATE", "0.001"), ("HEAD_RATE", "0.01")):
        monkeypatch.setenv(f"TIEBREAK_FINETUNE_{name}", value)
    monkeypatch.setenv("TIEBREAK_AUGMENTATION", "none")
    one = (str(data), "--strategies", "random", "--budgets", "20,30,60", "--seeds", "1")
    # Wrong labels, so that no network is right about everything.
    noisy = ("--label-noise", "0.2")
    plain, tuned = (found(*one, *noisy, *more) for more in ((), ("--finetune-at", "30")))
    before, after = (told["runs"][0]["curve"] for told in (plain, tuned))
    assert before[0] == after[0]
    assert before[1:] != after[1:]
    assert not list(here.glob("*.unfinished"))
    train, test = images_of(data, "train"), images_of(data, "test")
    project = draw_scenario(train.targets, class_count=3, seed=0, label_noise=0.2)

    def load() -> Backbone:
        return load_backbone(
            "mobilenet_v3_small", input_size=32, weights_dir=seeded_weights, cache_dir=here
        )

    pool = embedded(load(), train)
    points = replay(
        pool,
        project.answers,
        embedded(load(), test),
        test.targets,
        classes=CLASSES,
        strategy="random",
        budgets=[20, 30, 60],
        seed=0,
        prior=draw_prior(pool, 0),
        finetune=FineTuner(
            load, train, test, CLASSES, tuning_options(load_settings()), here / "s", lambda *_: None
        ),
        finetune_at=[30],
    )
    assert after == [{"labels": point.labels, "accuracy": point.accuracy} for point in points]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "There is no file or folder nowhere"),
        (("shapes.npz", "--strategies", "magic,random"), "--strategies names magic"),
        (("shapes.npz", "--strategies", ","), "--strategies names nothing"),
        (("shapes.npz", "--budgets", "50,20"), "--budgets is 50,20; ascending numbers"),
        (("shapes.npz", "--budgets", "ten"), "--budgets is 'ten'; whole numbers"),
        (("shapes.npz", "--budgets", "5,100"), "--budgets ends with 100; the pool has 60"),
        (("shapes.npz", "--budgets", "5,50", "--pool", "40"), "the pool has 40 images"),
        (("shapes.npz", "--budgets", "5", "--start", "6"), "--start is 6; the first budget is 5"),
        (("shapes.npz", "--budgets", "50", "--finetune-at", "10"), "--finetune-at is 10"),
        (("shapes.npz", "--budgets", "50", "--finetune-at", "60"), "--finetune-at ends with 60"),
        (("shapes.npz", "--imbalance", "999"), "imbalance=999 leaves the rarest class without"),
        (("gap.npz",), "has no training image of stripes"),
        (("shapes.npz", "--out", "no/where.html"), "cannot be written"),
        (("shapes.npz", "--backbone", "small_cnn"), "trains from scratch"),
    ],
)
def test_what_cannot_be_is_a_sentence(here: Path, arguments: tuple[str, ...], said: str) -> None:
    save_arrays(here / "shapes.npz", test=30)
    x, y = shapes(20, 1)
    kept = y < 2
    np.savez(here / "gap.npz", X_train=x[kept], y_train=y[kept], class_names=CLASSES)
    if "--strategies" not in arguments:
        arguments = (*arguments, "--strategies", "random")
    small = [] if "--backbone" in arguments else [*SMALL]
    result = CliRunner().invoke(app, ["simulate", *arguments, *small])
    assert result.exit_code == 1, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_images_that_cannot_be_read_may_be_too_many(here: Path) -> None:
    for name in CLASSES[:2]:
        (here / "few" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(shapes(1, i)[0][0]).save(here / "few" / name / f"{i}.png")
        (here / "few" / name / "bad.png").write_bytes(b"bad")
    result = run("few", "--strategies", "random", "--budgets", "8")
    assert result.exit_code == 1
    assert "--budgets ends with 8; the pool has" in result.stderr


def test_nothing_in_a_name_becomes_markup() -> None:
    evil = "</script><script>alert(1)</script>"
    row = {"strategy": evil, "seed": 0, "curve": [{"labels": 5, "accuracy": 0.5}]}
    reference = row | {"strategy": "random"}
    page = simulation_page(
        PageText(evil, evil, evil), summarise([row, reference], [evil, "random"])
    )
    assert evil not in page
