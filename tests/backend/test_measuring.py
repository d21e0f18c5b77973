from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from backend.dataset import LabelledImages
from backend.label_config import parse_label_config
from backend.measures_text import measures_text
from backend.measuring import audit_point, measure
from backend.version_metrics import gate_of, headline
from model.head import HeadFit, fit_head
from model.metrics import wilson_interval
from tests.backend.test_judging import CONFIG

MULTIPLE = CONFIG.replace('toName="image">', 'toName="image" choice="multiple">')


def fitted(n: int, held_out: int, *, multiple: bool = False) -> tuple[LabelledImages, HeadFit]:
    random = np.random.default_rng(2)
    (control,) = parse_label_config(MULTIPLE if multiple else CONFIG).controls
    positions = random.integers(0, 3, n)
    embeddings = np.eye(3, 8)[positions] + random.normal(0, 0.45, (n, 8))
    targets = np.eye(3, dtype=bool)[positions] if multiple else positions
    held = np.arange(n) < held_out
    names = np.arange(n).astype(str)
    part = LabelledImages(control, np.arange(n), embeddings, targets, held, names, names)
    fit = fit_head(
        embeddings[~held], targets[~held], classes=control.classes, multiple=multiple, seed=0
    )
    return part, fit


@pytest.mark.parametrize("multiple", [False, True])
def test_both_samples_are_measured(multiple: bool) -> None:
    part, fit = fitted(300, 120, multiple=multiple)
    found = measure(part, fit, seed=0)
    assert (found["held_out"]["n"], found["cross_validated"]["n"]) == (120, 180)
    name = "exact_match" if multiple else "accuracy"
    assert found["cross_validated"][name]["value"] == pytest.approx(fit.metrics["accuracy"])
    said = fit.head.probabilities(part.embeddings[part.held_out])
    held = part.targets[part.held_out]
    right = ((said >= fit.head.thresholds) == held).all(1) if multiple else said.argmax(1) == held
    assert found["held_out"][name]["value"] == pytest.approx(right.mean())
    json.dumps(found, allow_nan=False)


def test_near_duplicates_widen_the_intervals() -> None:
    part, fit = fitted(300, 120)
    alone = measure(part, fit, seed=0)["held_out"]["accuracy"]
    pairs = replace(part, leaders=(np.arange(300) // 2).astype(str))
    together = measure(pairs, fit, seed=0)["held_out"]["accuracy"]
    assert (together["value"], together["n"]) == (alone["value"], alone["n"])
    assert together["high"] - together["low"] > alone["high"] - alone["low"]


def test_what_cannot_be_told_says_so() -> None:
    part, fit = fitted(9, 3)
    found = measure(part, fit, seed=0)
    assert found["held_out"]["accuracy"]["reason"] == "cannot tell yet: 3 of 10 labels"
    assert found["held_out"]["macro_f1"]["value"] is None
    untested = measure(part, HeadFit(fit.head, None, {}), seed=0)
    assert untested["cross_validated"]["n"] == 0
    [text] = measures_text({"label": untested})
    assert "cannot tell yet: 0 of 10 labels" in text
    assert "class by class" not in text


def test_numbers_are_read_with_their_intervals() -> None:
    part, fit = fitted(300, 120)
    found = measure(part, fit, seed=0)
    [text] = measures_text({"label": found})
    lines = text.splitlines()
    assert "held out, n = 120" in lines[1]
    assert "cross-validated, n = 180" in lines[1]
    share = found["held_out"]["accuracy"]
    shown = f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})"
    assert any(line.startswith("accuracy") and shown in line for line in lines)
    assert any(line.startswith("log loss") for line in lines)
    cat = found["held_out"]["per_class"][0]
    row = next(line for line in lines if line.startswith("cat"))
    assert row.split()[1] == str(cat["support"])
    assert "Most mixed up: " in lines[-1]
    [many] = measures_text({"tags": measure(*fitted(300, 120, multiple=True), seed=0)})
    assert "all classes right" in many


def test_lists_are_short_and_old_rows_are_read() -> None:
    part, fit = fitted(120, 60)
    metrics = {
        "measures": {"label": measure(part, fit, seed=0)},
        "gate": {"n": 3, "gained_ids": [1], "lost_ids": [2]},
        "seconds": 1.0,
    }
    short = headline(metrics)
    assert short["gate"] == {"n": 3}
    assert short["seconds"] == 1.0
    held_out = short["measures"]["label"]["held_out"]
    assert held_out["accuracy"] == metrics["measures"]["label"]["held_out"]["accuracy"]  # type: ignore[index]
    assert {"per_class", "confusion"}.isdisjoint(held_out)
    assert headline({"holdout": {"n": 5}}) == {"holdout": {"n": 5}}
    assert gate_of({"holdout": {"n": 5}}) == {"n": 5}
    assert gate_of({}) == {}


def test_near_duplicates_among_the_audit_labels_widen_the_interval() -> None:
    part, fit = fitted(300, 120)
    alone = measure(part, fit, seed=0)["held_out"]["accuracy"]
    right = round(alone["value"] * 120)
    assert (alone["low"], alone["high"]) == pytest.approx(wilson_interval(right, 120))
    assert audit_point(part, fit) == {"labels": 180, "right": right, "audited": 120, "groups": 120}
    # All images four times, labelled alike: as much as they tell once, and hardly more.
    fourfold = part.rows(np.concatenate([np.tile(np.arange(120), 4), np.arange(120, 300)]))
    together = measure(fourfold, fit, seed=0)["held_out"]["accuracy"]
    assert (together["value"], together["n"]) == (pytest.approx(alone["value"]), 480)
    assert together["high"] - together["low"] == pytest.approx(
        alone["high"] - alone["low"], rel=0.1
    )
    point = audit_point(fourfold, fit)
    assert (point["labels"], point["groups"]) == (180, 120)
    assert 120 <= point["audited"] < 135
    assert point["right"] == pytest.approx(alone["value"] * point["audited"], abs=0.5)


def test_audit_labels_of_few_images_cannot_tell() -> None:
    part, fit = fitted(60, 6)
    twelve = part.rows(np.concatenate([np.tile(np.arange(6), 2), np.arange(6, 60)]))
    number = measure(twelve, fit, seed=0)["held_out"]["accuracy"]
    assert (number["value"], number["n"]) == (None, 12)
    assert re.fullmatch(
        r"cannot tell yet: [6-9] of 10 labels, near-duplicates counted once", number["reason"]
    )
    assert audit_point(twelve, fit)["audited"] == 0
