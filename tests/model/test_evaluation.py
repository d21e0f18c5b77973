from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from model.errors import ArgumentError
from model.evaluation import evaluate
from model.metrics import wilson_interval

CLASSES = ["a", "b", "c", "d", "e"]


def sure(said: list[int], k: int, confidence: float = 0.8) -> np.ndarray:
    """Probabilities that say these classes, the rest spread evenly."""
    p = np.full((len(said), k), (1 - confidence) / (k - 1))
    p[np.arange(len(said)), said] = confidence
    return p


def softmax_rows(n: int, k: int, seed: int, pull: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets of a model that is often right."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, n)
    logits = random.normal(size=(n, k))
    logits[np.arange(n), targets] += pull
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), targets


# Twice the rows of: truth aaaa bbbbbb ccccc, said aaab bbbbca ccccb: 11 of 15 right.
TRUTH = 2 * [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
SAID = 2 * [0, 0, 0, 1, 1, 1, 1, 1, 2, 0, 2, 2, 2, 2, 1]


def by_hand() -> dict[str, Any]:
    return evaluate(sure(SAID, 4), TRUTH, ["a", "b", "c", "none"], False, 0)


def test_shares_by_hand():
    found = by_hand()
    assert found["n"] == 30
    assert found["accuracy"]["value"] == pytest.approx(22 / 30)
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == wilson_interval(22, 30)
    a, b, c, none = found["per_class"]
    assert (a["class"], a["support"], b["support"], none["support"]) == ("a", 8, 12, 0)
    # 8 of a are too few for its recall; it was said 8 times, too few for its precision.
    assert a["recall"]["value"] is None
    assert a["recall"]["reason"] == "cannot tell yet: 8 of 10 labels"
    assert b["recall"]["value"] == pytest.approx(8 / 12)
    assert b["precision"]["value"] == pytest.approx(8 / 12)
    assert c["recall"]["value"] == pytest.approx(8 / 10)
    assert found["confusion"] == [[6, 2, 0, 0], [2, 8, 2, 0], [0, 2, 8, 0], [0, 0, 0, 0]]


def test_f1_by_hand():
    found = by_hand()
    # F1 = 2 hits / (labels + said): 12/16, 16/24, 16/20; the class without labels does not count.
    each, weights = np.array([0.75, 2 / 3, 0.8]), np.array([8, 12, 10]) / 30
    assert found["macro_f1"]["value"] == pytest.approx(each.mean())
    assert found["weighted_f1"]["value"] == pytest.approx(each @ weights)


def test_loss_and_calibration_by_hand():
    found = by_hand()
    # 22 rows give 0.8 to the truth and 8 give 0.2 / 3.
    expected = -(22 * np.log(0.8) + 8 * np.log(0.2 / 3)) / 30
    assert found["log_loss"]["value"] == pytest.approx(expected)
    assert found["ece"]["reason"] == "cannot tell yet: 30 of 100 labels"
    more = evaluate(np.tile(sure(SAID, 4), (4, 1)), np.tile(TRUTH, 4), list("abcd"), False, 0)
    # All rows are in one bin: said 0.8, right 22 of 30.
    assert more["ece"]["value"] == pytest.approx(0.8 - 22 / 30)


def test_area_by_hand():
    # Scores of a take two values: said a (6 of 8 yes, 2 of 22 no), or not.
    found = by_hand()
    areas = []
    for hits, yes, said in ((6, 8, 8), (8, 12, 12), (8, 10, 10)):
        no, false = 30 - yes, said - hits
        won = hits * (no - false) + 0.5 * (hits * false + (yes - hits) * (no - false))
        areas.append(won / (yes * no))
    assert found["roc_auc"]["value"] == pytest.approx(np.mean(areas))


def test_top_3_by_hand():
    p = np.tile([0.4, 0.3, 0.2, 0.07, 0.03], (20, 1))
    found = evaluate(p, 4 * [0, 1, 2, 3, 4], CLASSES, False, 0)
    assert found["top_3"]["value"] == pytest.approx(12 / 20)
    few = evaluate(np.tile([0.5, 0.3, 0.2], (20, 1)), 20 * [0], list("abc"), False, 0)
    assert few["top_3"]["value"] is None
    assert few["top_3"]["reason"] == "with 3 classes it is always right"


def test_questions_by_hand():
    # 40 rows: both right; one said too much; one said too little; nothing true, nothing said.
    truth = 10 * [[1, 0], [0, 1], [1, 1], [0, 0]]
    p = 10 * [[0.9, 0.2], [0.7, 0.8], [0.4, 0.9], [0.1, 0.3]]
    found = evaluate(p, truth, ["a", "b"], True, 0)
    assert found["exact_match"]["value"] == pytest.approx(0.5)
    # a: 10 hits, 20 labels, 20 said; b: 20 hits, 20 labels, 20 said.
    assert found["micro_f1"]["value"] == pytest.approx(2 * 30 / 80)
    assert found["macro_f1"]["value"] == pytest.approx((0.5 + 1) / 2)
    assert found["confusion"] == [[[10, 10], [10, 10]], [[20, 0], [0, 20]]]
    # a: its yes score 0.9 and 0.4, its no 0.7 and 0.1: 3 of 4 pairs.
    assert found["roc_auc"]["value"] == pytest.approx((0.75 + 1) / 2)
    lower = evaluate(p, truth, ["a", "b"], True, 0, thresholds=[0.4, 0.5])
    assert lower["exact_match"]["value"] == pytest.approx(0.75)
    assert lower["micro_f1"]["value"] == pytest.approx(2 * 40 / 90)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 80), st.integers(2, 6), st.booleans())
def test_numbers_are_sklearns_and_lie_in_their_intervals(seed: int, n: int, k: int, multiple: bool):
    p, targets = softmax_rows(n, k, seed)
    flags = np.eye(k, dtype=bool)[targets]
    found = evaluate(p, flags if multiple else targets, CLASSES[:k] + ["f"] * (k > 5), multiple, 1)
    labels = np.unique(targets)
    said = p >= 0.5 if multiple else p.argmax(axis=1)
    truth = flags if multiple else targets
    for average in ("macro", "micro" if multiple else "weighted"):
        expected = f1_score(truth, said, labels=labels, average=average, zero_division=0)
        assert found[f"{average}_f1"]["value"] == pytest.approx(expected)
    areas = [roc_auc_score(flags[:, c], p[:, c]) for c in labels if not flags[:, c].all()]
    assert found["roc_auc"]["value"] == pytest.approx(np.mean(areas))
    for name in ("macro_f1", "roc_auc", "log_loss"):
        number = found[name]
        assert number["low"] <= number["value"] <= number["high"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("multiple", [False, True])
def test_intervals_hold_the_truth_about_as_often_as_they_say(multiple: bool):
    """50 samples of 200 rows, against what 50,000 rows say."""
    p, targets = softmax_rows(50_000, 4, 99)
    truth = np.eye(4, dtype=bool)[targets] if multiple else targets
    names = ("log_loss", "macro_f1", "roc_auc")
    whole = evaluate(p, truth, CLASSES[:4], multiple, 0)
    held = dict.fromkeys(names, 0)
    for start in range(0, 10_000, 200):
        part = slice(start, start + 200)
        found = evaluate(p[part], truth[part], CLASSES[:4], multiple, start)
        for name in names:
            held[name] += found[name]["low"] <= whole[name]["value"] <= found[name]["high"]
    # 47.5 expected of 50; the binomial's 0.1% point is 41.
    assert min(held.values()) >= 41, held


def test_the_seed_fixes_every_draw():
    p, targets = softmax_rows(120, 4, 5)
    one, again, other = (evaluate(p, targets, CLASSES[:4], False, seed) for seed in (1, 1, 2))
    assert one == again
    assert one["macro_f1"]["value"] == other["macro_f1"]["value"]
    assert one["macro_f1"] != other["macro_f1"]


@pytest.mark.parametrize("multiple", [False, True])
def test_of_nothing_nothing_can_be_told(multiple: bool):
    targets = np.zeros((0, 2), dtype=bool) if multiple else []
    found = evaluate(np.zeros((0, 2)), targets, ["a", "b"], multiple, 0)
    for name, number in found.items():
        if isinstance(number, dict):
            assert number["value"] is None, name
            assert number["n"] == 0
    assert np.sum(found["confusion"]) == 0
    json.dumps(found, allow_nan=False)


def test_the_reliability_by_hand():
    # 60 rows said with 0.5, of which 30 are right, then 60 with 0.9, of which 54 are.
    p = np.array(60 * [[0.5, 0.3, 0.2]] + 60 * [[0.9, 0.06, 0.04]])
    targets = 30 * [0] + 30 * [1] + 54 * [0] + 6 * [2]
    steps = evaluate(p, targets, CLASSES[:3], False, 0)["reliability"]
    assert [step["confidence"] for step in steps] == pytest.approx(3 * [0.5] + 3 * [0.9])
    # Equal confidences keep their order: 20 right; 10 of 20; none; 20; 20; 14 of 20.
    assert [step["share"]["value"] for step in steps] == [1, 0.5, 0, 1, 1, 0.7]
    assert (steps[5]["share"]["low"], steps[5]["share"]["high"]) == wilson_interval(14, 20)
    assert evaluate(p[:99], targets[:99], CLASSES[:3], False, 0)["reliability"] is None


def test_the_reliability_of_several_choices_is_that_of_their_questions():
    p = np.tile([0.8, 0.1], (100, 1))
    flags = np.zeros((100, 2), dtype=bool)
    flags[:70, 0] = True
    flags[:20, 1] = True
    steps = evaluate(p, flags, CLASSES[:2], True, 0)["reliability"]
    assert len(steps) == 10
    assert [step["confidence"] for step in steps] == pytest.approx(5 * [0.1] + 5 * [0.8])
    assert sum(step["share"]["value"] * step["share"]["n"] for step in steps) == pytest.approx(90)


def test_one_class_alone_has_no_area():
    found = evaluate(sure(40 * [0], 2), 40 * [0], ["a", "b"], False, 0)
    assert found["roc_auc"]["reason"] == "cannot tell yet: no class has both a yes and a no"
    assert found["macro_f1"]["value"] == 1.0
    none = evaluate(np.full((40, 2), 0.1), np.zeros((40, 2), dtype=bool), ["a", "b"], True, 0)
    assert none["exact_match"]["value"] == 1.0
    assert none["macro_f1"]["reason"] == "cannot tell yet: no class has a yes"


def test_no_matrix_of_very_many_classes():
    p, targets = softmax_rows(50, 101, 0)
    assert evaluate(p, targets, [str(c) for c in range(101)], False, 0)["confusion"] is None


def test_what_does_not_fit_is_refused():
    p = sure(10 * [0], 2)
    with pytest.raises(ArgumentError, match="2 columns for 3 classes"):
        evaluate(p, 10 * [0], list("abc"), False, 0)
    with pytest.raises(ArgumentError, match="targets has shape"):
        evaluate(p, [0], list("ab"), False, 0)
    with pytest.raises(ArgumentError, match="thresholds has shape"):
        evaluate(p, np.zeros((10, 2), dtype=bool), list("ab"), True, 0, thresholds=[0.5])


@pytest.mark.parametrize("multiple", [False, True])
def test_every_row_twice_tells_no_more(multiple: bool):
    p, targets = softmax_rows(140, 4, 3)
    if multiple:
        targets = np.random.default_rng(5).random((140, 4)) < p
    names = ["a", "b", "c", "d"]
    once = evaluate(p, targets, names, multiple, 1)
    twice = evaluate(
        np.repeat(p, 2, axis=0),
        np.repeat(targets, 2, axis=0),
        names,
        multiple,
        1,
        groups=np.repeat(np.arange(140), 2),
    )
    alone = evaluate(np.repeat(p, 2, axis=0), np.repeat(targets, 2, axis=0), names, multiple, 1)
    measures = ["exact_match", "micro_f1"] if multiple else ["accuracy", "top_3", "weighted_f1"]
    for measure in [*measures, "macro_f1", "roc_auc", "log_loss", "ece"]:
        for end in ("value", "low", "high"):
            assert twice[measure][end] == pytest.approx(once[measure][end]), measure
        assert twice[measure]["n"] == 280
    # Taken for rows that were drawn one by one, they would seem to tell twice as much.
    widths = [found[measures[0]]["high"] - found[measures[0]]["low"] for found in (once, alone)]
    assert widths[1] / widths[0] == pytest.approx(0.5**0.5, abs=0.01)


def test_groups_that_tell_too_little_tell_nothing():
    found = evaluate(sure([0] * 30, 2), [0] * 30, ["a", "b"], False, 0, groups=np.arange(30) // 6)
    assert found["accuracy"]["value"] is None
    assert found["accuracy"]["reason"] == (
        "cannot tell yet: 5 of 10 labels, near-duplicates counted once"
    )
