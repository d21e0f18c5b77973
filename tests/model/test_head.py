from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_digits

from model.errors import ArgumentError
from model.head import Head, fit_head, power_normalise
from model.metrics import accuracy, log_loss
from model.thresholds import f1_each, fit_thresholds
from tests.model.head_blobs import NAMES, blobs, fit


def test_real_digits_are_learned_and_calibrated():
    rows, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    train, rest = order[:300], order[300:]
    found = fit_head(
        rows[train], targets[train], classes=tuple(map(str, range(10))), multiple=False, seed=0
    )
    p = found.head.probabilities(rows[rest])
    assert p.dtype == np.float32
    assert p.shape == (1497, 10)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert accuracy(p, targets[rest]) > 0.93
    # What cross-validation promised is what unseen images show.
    assert found.metrics["accuracy"] == pytest.approx(accuracy(p, targets[rest]), abs=0.03)
    assert found.metrics["log_loss"] == pytest.approx(log_loss(p, targets[rest]), abs=0.06)
    assert found.metrics["ece_after"] < 0.06
    assert found.metrics["n"] == 300
    assert found.metrics["classes_present"] == 10


def test_two_labels_of_two_classes_are_enough():
    rows, targets = blobs(2, 2)
    found = fit(rows, targets, 2)
    assert found.out_of_fold is None
    assert found.head.temperature.tolist() == [1]
    assert found.head.probabilities(rows).argmax(axis=1).tolist() == [0, 1]
    told = {name: found.metrics[name] for name in ("accuracy", "log_loss", "ece_before", "tested")}
    assert told == {"accuracy": None, "log_loss": None, "ece_before": None, "tested": 0}


def test_equal_pictures_with_different_labels_give_their_shares():
    found = fit(np.ones((6, 4)), np.array([0, 0, 0, 0, 1, 1]), 2)
    assert found.head.probabilities(np.ones((1, 4)))[0] == pytest.approx([2 / 3, 1 / 3], abs=0.05)


def test_a_class_without_labels_gets_nothing():
    rows, targets = blobs(60, 3)
    found = fit(rows, np.array([0, 2, 5])[targets], 7)
    p = found.head.probabilities(rows)
    assert p[:, [1, 3, 4, 6]].max() == 0
    assert found.out_of_fold[:, [1, 3, 4, 6]].max() == 0
    assert found.metrics["classes_present"] == 3
    assert accuracy(p, np.array([0, 2, 5])[targets]) > 0.95


def test_the_only_label_of_a_class_is_not_tested():
    rows, targets = blobs(20, 2)
    targets = targets.copy()
    targets[4] = 2
    found = fit(rows, targets, 3)
    assert np.isnan(found.out_of_fold[4]).all()
    rest = np.arange(20) != 4
    np.testing.assert_allclose(found.out_of_fold[rest].sum(axis=1), 1)
    assert found.metrics["tested"] == 19
    assert found.metrics["accuracy"] == accuracy(found.out_of_fold[rest], targets[rest])


def test_one_class_with_two_labels_cannot_be_tested():
    rows, _ = blobs(4, 4)
    assert fit(rows, np.array([0, 0, 1, 2]), 3).out_of_fold is None


def test_out_of_fold_probabilities_are_honest():
    # Labels that say nothing about the rows: a model that had seen a row would know its label.
    rng = np.random.default_rng(0)
    rows, targets = rng.random((120, 200)), rng.integers(0, 3, 120)
    found = fit(rows, targets, 3)
    assert accuracy(found.head.probabilities(rows), targets) > 0.6
    assert found.metrics["accuracy"] < 0.45
    assert found.metrics["log_loss"] < np.log(3) + 0.1


def test_few_perfect_labels_are_no_certainty():
    rows, targets = blobs(60, 2, spread=0.1)
    found = fit(rows, targets, 2)
    assert found.metrics["accuracy"] == 1
    assert found.out_of_fold.max(axis=1).mean() <= 61 / 62 + 1e-4


def test_the_same_arguments_give_the_same_head():
    rows, targets = blobs(60, 3)
    one, two = fit(rows, targets, 3, seed=5), fit(rows, targets, 3, seed=5)
    for name, values in one.head.to_arrays().items():
        np.testing.assert_array_equal(values, two.head.to_arrays()[name])
    np.testing.assert_array_equal(one.out_of_fold, two.out_of_fold)
    assert one.metrics == two.metrics


def test_the_caller_s_arrays_are_left_alone():
    rows, targets = blobs(30, 3)
    kept = rows.copy(), targets.copy()
    fit(rows, targets, 3)
    np.testing.assert_array_equal(rows, kept[0])
    np.testing.assert_array_equal(targets, kept[1])


def test_the_length_of_an_embedding_does_not_matter():
    rows, targets = blobs(60, 3, spread=2)
    head = fit(rows.astype(np.float32), targets, 3).head
    far = 1000 * rows.astype(np.float32)
    np.testing.assert_allclose(head.probabilities(far), head.probabilities(rows), atol=1e-4)


def test_several_classes_at_once():
    rows, targets = blobs(160, 4)
    flags = np.stack([targets == 0, targets <= 1, targets == 3], axis=1)
    found = fit(rows, flags, 3, multiple=True)
    new, positions = blobs(400, 4, seed=1)
    p = found.head.probabilities(new)
    wanted = np.stack([positions == 0, positions <= 1, positions == 3], axis=1)
    assert ((p >= 0.5) == wanted).mean() > 0.95
    assert found.head.temperature.shape == (3,)
    assert found.out_of_fold.shape == (160, 3)
    assert found.metrics["accuracy"] > 0.8
    assert found.metrics["ece_after"] < 0.1
    np.testing.assert_array_equal(found.head.thresholds, fit_thresholds(found.out_of_fold, flags))


def test_what_is_said_of_several_classes_is_measured():
    rows, targets = blobs(300, 6, spread=4)
    flags = np.stack([targets == 0, targets == 1, targets > 1, np.zeros(300, dtype=bool)], axis=1)
    found = fit(rows, flags, 4, multiple=True)
    assert (found.head.thresholds[:2] < 0.48).all()
    assert found.head.thresholds[3] == 0.5
    new, positions = blobs(3000, 6, spread=4, seed=1)
    p = found.head.probabilities(new)[:, :3]
    wanted = np.stack([positions == 0, positions == 1, positions > 1], axis=1)
    each = f1_each(p >= found.head.thresholds[:3], wanted)
    assert each.mean() > f1_each(p >= 0.5, wanted).mean() + 0.02
    # The report is of unseen rows: no class without a yes is in the mean.
    assert found.metrics["macro_f1"] == pytest.approx(each.mean(), abs=0.04)
    assert found.metrics["macro_f1"] < found.metrics["micro_f1"] < 1


def test_a_head_of_one_choice_has_no_thresholds():
    found = fit(*blobs(60, 3), 3)
    assert found.head.thresholds is None
    assert "micro_f1" not in found.metrics
    assert sorted(found.head.to_arrays()) == ["bias", "temperature", "weights"]


def test_without_tested_rows_a_class_is_said_from_one_half_on():
    found = fit(np.ones((2, 4)), np.array([[True, False], [False, False]]), 2, multiple=True)
    assert found.head.thresholds.tolist() == [0.5, 0.5]
    assert (found.metrics["micro_f1"], found.metrics["macro_f1"]) == (None, None)


def test_all_yes_and_all_no_are_constant():
    rows, targets = blobs(40, 2)
    flags = np.stack([targets == 0, targets < 2, targets > 1], axis=1)
    found = fit(rows, flags, 3, multiple=True)
    p = found.head.probabilities(blobs(9, 3, seed=2)[0])
    # (40 + 1) / (40 + 2) and 1 / 42; 33 / 34 and 1 / 34 with a fifth of the rows left out.
    np.testing.assert_allclose(p[:, 1], 41 / 42, atol=1e-4)
    np.testing.assert_allclose(p[:, 2], 1 / 42, atol=1e-4)
    np.testing.assert_allclose(found.out_of_fold[:, 1], 33 / 34, atol=1e-4)
    assert found.metrics["classes_present"] == 2


def test_one_row_of_flags_is_enough():
    found = fit(np.ones((1, 4)), np.array([[True, False]]), 2, multiple=True)
    assert found.head.probabilities(np.ones((1, 4)))[0] == pytest.approx([2 / 3, 1 / 3])
    assert found.out_of_fold is None


def test_a_rare_class_is_tested_without_its_only_yes():
    rows, targets = blobs(30, 3)
    flags = np.stack([targets == 0, np.arange(30) == 7], axis=1)
    found = fit(rows, flags, 2, multiple=True)
    assert np.isfinite(found.out_of_fold).all()
    # Without row 7 its fold has 24 rows and no yes: odds of 1 to 25 before the temperature.
    odds = found.out_of_fold[7, 1] / (1 - found.out_of_fold[7, 1])
    assert np.log(odds) * found.head.temperature[1] == pytest.approx(-np.log(25), rel=1e-4)


def test_arrays_come_back_as_the_same_head():
    rows, targets = blobs(30, 3)
    head = fit(rows, targets, 3).head
    again = Head.from_arrays(head.to_arrays(), list(head.classes), head.multiple)
    assert again.classes == head.classes
    np.testing.assert_array_equal(again.probabilities(rows), head.probabilities(rows))
    assert {a.dtype for a in head.to_arrays().values()} == {np.dtype(np.float32)}


def test_arrays_stored_without_thresholds_mean_one_half():
    flags = np.eye(3, dtype=bool)[blobs(90, 3)[1]]
    head = fit(blobs(90, 3, spread=4)[0], flags, 3, multiple=True).head
    arrays_ = head.to_arrays()
    again = Head.from_arrays(arrays_, head.classes, True)
    np.testing.assert_array_equal(again.thresholds, head.thresholds)
    del arrays_["thresholds"]
    assert Head.from_arrays(arrays_, head.classes, True).thresholds.tolist() == [0.5] * 3


def test_arrays_that_do_not_fit_are_refused():
    head = fit(*blobs(30, 3), 3).head
    arrays_ = head.to_arrays()
    with pytest.raises(ArgumentError, match=r"weights has shape \(48, 3\); \(d, 2\)"):
        Head.from_arrays(arrays_, ("a", "b"), False)
    with pytest.raises(ArgumentError, match=r"temperature has shape \(1,\); \(3,\)"):
        Head.from_arrays(arrays_, ("a", "b", "c"), True)
    with pytest.raises(ArgumentError, match="arrays has no bias"):
        Head.from_arrays({k: v for k, v in arrays_.items() if k != "bias"}, NAMES[:3], False)
    with pytest.raises(ArgumentError, match=r"thresholds has shape \(3,\); None"):
        Head.from_arrays(arrays_ | {"thresholds": np.ones(3)}, NAMES[:3], False)
    each = arrays_ | {"temperature": np.ones(3)}
    with pytest.raises(ArgumentError, match=r"thresholds has shape \(2,\); \(3,\)"):
        Head.from_arrays(each | {"thresholds": np.ones(2)}, NAMES[:3], True)
    with pytest.raises(ArgumentError, match=r"thresholds is \[0\. 1\. 1\.\]; \(0, 1\]"):
        Head.from_arrays(each | {"thresholds": np.array([0, 1, 1])}, NAMES[:3], True)


def test_many_rows_are_the_same_as_a_few():
    rows, targets = blobs(40, 3)
    head = fit(rows, targets, 3).head
    many = np.tile(rows, (500, 1))
    np.testing.assert_allclose(head.logits(many)[-40:], head.logits(rows), rtol=1e-4, atol=1e-4)


@given(arrays(np.float32, (3, 5), elements=st.floats(-1000, 1000, width=32)))
def test_power_normalisation_keeps_signs_and_gives_unit_rows(rows: np.ndarray):
    normal = power_normalise(rows)
    lengths = np.linalg.norm(normal, axis=1)
    zero = ~np.sqrt(np.abs(rows)).any(axis=1)
    np.testing.assert_allclose(lengths[~zero], 1, rtol=1e-4)
    assert not normal[zero].any()
    assert (np.sign(normal) * np.sign(rows) >= 0).all()


def test_rows_that_are_normalised_already_are_taken_as_they_are():
    generator = np.random.default_rng(0)
    rows, targets = generator.normal(size=(30, 5)), np.arange(30) % 3
    head = fit_head(rows, targets, classes=("a", "b", "c"), multiple=False, seed=0).head
    normal = power_normalise(rows)
    np.testing.assert_array_equal(head.logits(normal, normalised=True), head.logits(rows))
    expected = head.probabilities(rows)
    np.testing.assert_array_equal(head.probabilities(normal, normalised=True), expected)


def test_power_normalisation_by_hand():
    # Roots 3, -4, 0: length 5.
    assert power_normalise(np.array([[9, -16, 0]]))[0] == pytest.approx([0.6, -0.8, 0])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=14).filter(lambda t: len(set(t)) > 1),
    st.integers(0, 5),
)
def test_any_labels_of_two_classes_give_probabilities(targets: list[int], seed: int):
    rows = np.random.default_rng(seed).random((len(targets), 6))
    found = fit(rows, np.array(targets), 4, seed=seed)
    np.testing.assert_allclose(found.head.probabilities(rows).sum(axis=1), 1, atol=1e-5)
    if found.out_of_fold is not None:
        counts = np.bincount(targets)[targets]
        assert (np.isnan(found.out_of_fold).any(axis=1) == (counts == 1)).all()


@settings(max_examples=25, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 4))))
def test_any_flags_give_probabilities(flags: np.ndarray):
    rows = np.random.default_rng(0).random((len(flags), 6))
    found = fit(rows, flags, flags.shape[1], multiple=True)
    p = found.head.probabilities(rows)
    assert ((p >= 0) & (p <= 1)).all()
    assert (found.out_of_fold is None) == (len(flags) < 4)


def spoiled(value: float) -> np.ndarray:
    rows = np.ones((3, 4))
    rows[1, 2] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "targets", "multiple", "said"),
    [
        (spoiled(np.nan), [0, 1, 0], False, r"embeddings\[1, 2\] is nan"),
        (spoiled(np.inf), [0, 1, 0], False, r"embeddings\[1, 2\] is inf"),
        (spoiled(1e300), [0, 1, 0], False, r"embeddings\[1, 2\] is inf"),
        (np.ones(3), [0, 1, 0], False, r"embeddings has shape \(3,\)"),
        (np.ones((3, 0)), [0, 1, 0], False, r"embeddings has shape \(3, 0\)"),
        ([["a"]], [0], False, "embeddings is not an array of numbers"),
        (np.ones((3, 4)), [0, 1], False, r"targets has shape \(2,\); \(3,\)"),
        (np.ones((3, 4)), [0, 1, 2], False, r"targets\[2\] is 2; positions 0 to 1"),
        (np.ones((3, 4)), [0, -1, 1], False, r"targets\[1\] is -1"),
        (np.ones((3, 4)), [0.0, 1.0, 0.0], False, "targets has dtype float64"),
        (np.ones((3, 4)), [1, 1, 1], False, r"targets has labels of 1 class\(es\) in 3 row\(s\)"),
        (np.ones((0, 4)), [], False, r"targets has labels of 0 class\(es\)"),
        (np.ones((3, 4)), [0, 1, 0], True, r"targets has shape \(3,\); \(3, 2\)"),
        (np.ones((1, 4)), [[0, 3]], True, "targets holds 3"),
        (np.ones((0, 4)), np.zeros((0, 2)), True, r"targets has shape \(0, 2\)"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    rows: object, targets: object, multiple: bool, said: str
):
    with pytest.raises(ArgumentError, match=said):
        fit(rows, targets, 2, multiple=multiple)


def test_embeddings_of_another_width_are_refused():
    head = fit(*blobs(30, 3), 3).head
    with pytest.raises(ArgumentError, match=r"embeddings has shape \(2, 5\); \(n, 48\)"):
        head.logits(np.ones((2, 5)))
    assert head.probabilities(np.zeros((0, 48))).shape == (0, 3)
