"""What a head knows of its rows beside their labels: weights, groups of copies, and which rows may
judge it."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import ArgumentError
from model.head import fit_head, power_normalise
from model.metrics import accuracy, log_loss
from model.pool_prior import PoolPrior
from tests.model.head_blobs import NAMES, blobs, fit


def test_copies_of_a_row_are_never_tested_by_a_model_that_learned_it():
    # Labels that say nothing about the rows: only a model that saw a copy would know them.
    rng = np.random.default_rng(0)
    rows, targets = rng.random((90, 200)), rng.integers(0, 3, 90)
    copies, of_copies = np.tile(rows, (2, 1)), np.tile(targets, 2)
    apart = fit(copies, of_copies, 3)
    found = fit_head(
        copies,
        of_copies,
        classes=NAMES[:3],
        multiple=False,
        seed=0,
        groups=np.tile(np.arange(90), 2),
        honest=np.arange(180) < 90,
    )
    assert apart.metrics["accuracy"] > 0.8
    assert found.metrics["accuracy"] < 0.45
    assert found.metrics["tested"] == 90
    assert np.isnan(found.out_of_fold[90:]).all()
    np.testing.assert_allclose(found.out_of_fold[:90].sum(axis=1), 1)


def overfitted(n: int, honest: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three classes; those that are not honest are pulled to the centre of their class."""
    rows, targets = blobs(n, 3, spread=3, seed=seed)
    known, _ = blobs(n, 3, spread=0.1, seed=seed)
    return np.where(honest[:, None], rows, known).astype(np.float32), targets


def test_rows_that_the_features_were_fitted_to_are_learned_but_not_believed():
    honest = np.random.default_rng(0).random(600) < 0.2
    rows, targets = overfitted(600, honest)
    new, positions = blobs(3000, 3, spread=3, seed=1)
    believed = fit(rows, targets, 3)
    found = fit_head(rows, targets, classes=NAMES[:3], multiple=False, seed=0, honest=honest)
    assert found.metrics["n"] == 600
    assert found.metrics["tested"] == honest.sum()
    assert (np.isnan(found.out_of_fold).any(axis=1) == ~honest).all()
    assert found.metrics["accuracy"] == accuracy(found.out_of_fold[honest], targets[honest])
    p = found.head.probabilities(new)
    assert log_loss(p, positions) < log_loss(believed.head.probabilities(new), positions)
    assert found.metrics["log_loss"] == pytest.approx(log_loss(p, positions), abs=0.2)


@pytest.mark.parametrize("with_pool", [False, True])
@pytest.mark.parametrize("multiple", [False, True])
def test_a_row_of_weight_two_is_the_row_twice(multiple: bool, with_pool: bool):
    """Heavier rows are learned by every fold's model, so that both are tested on the same rows."""
    rows, targets = blobs(90, 3, spread=2.0)
    wanted = np.eye(3, dtype=bool)[targets] if multiple else targets
    pool = PoolPrior(power_normalise(blobs(200, 3, spread=2.0, seed=5)[0])) if with_pool else None
    told = {"classes": NAMES[:3], "multiple": multiple, "seed": 1, "pool": pool}
    honest, twice = np.arange(90) < 60, np.arange(90) >= 60
    weights = np.where(twice, 2.0, 1.0)
    heavy = fit_head(rows, wanted, honest=honest, weights=weights, **told)
    both = np.append(np.arange(90), np.flatnonzero(twice))
    copied = fit_head(rows[both], wanted[both], honest=honest[both], **told)
    assert heavy.metrics["penalty"] == copied.metrics["penalty"]
    assert heavy.metrics["trust"] == copied.metrics["trust"]
    np.testing.assert_allclose(heavy.head.weights, copied.head.weights, atol=2e-2)
    np.testing.assert_allclose(heavy.out_of_fold[:60], copied.out_of_fold[:60], atol=5e-3)
    once = fit_head(rows, wanted, honest=honest, **told)
    # The search ends a hair from the best; without the weights it ends elsewhere.
    apart = np.abs(once.head.weights - copied.head.weights).max()
    assert np.abs(heavy.head.weights - copied.head.weights).max() < apart / 20
    same = fit_head(rows, wanted, honest=honest, weights=np.ones(90), **told)
    np.testing.assert_allclose(same.head.weights, once.head.weights, atol=1e-5)


def test_light_rows_give_their_shares():
    """Equal pictures, of which two a and six halves b: 2 / (2 + 3), as far as the penalty lets."""
    rows, targets = np.ones((8, 4)), np.array([0, 0, 1, 1, 1, 1, 1, 1])
    told = {"classes": NAMES[:2], "multiple": False, "seed": 0}
    found = fit_head(rows, targets, weights=[1, 1] + [0.5] * 6, **told)
    assert found.head.probabilities(rows[:1])[0] == pytest.approx([0.4, 0.6], abs=0.01)
    light = fit_head(rows, targets, weights=[1, 1] + [0.01] * 6, honest=[False] * 8, **told)
    assert light.head.probabilities(rows[:1])[0, 1] == pytest.approx(0.06 / 2.06, abs=0.01)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0] * 5, r"weights has shape \(5,\); \(6,\) is needed"),
        ([1.0, 0.0] * 3, r"weights\[1\] is 0.0; a number above 0"),
        ([1.0, np.nan] * 3, r"weights\[1\] is nan"),
        ([np.inf] * 6, r"weights\[0\] is inf"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: list[float], said: str):
    rows, targets = blobs(6, 2)
    with pytest.raises(ArgumentError, match=said):
        fit_head(rows, targets, classes=NAMES[:2], multiple=False, seed=0, weights=weights)


def test_without_an_honest_row_nothing_is_tested():
    rows, targets = blobs(60, 3)
    nobody = np.zeros(60, dtype=bool)
    found = fit_head(rows, targets, classes=NAMES[:3], multiple=False, seed=0, honest=nobody)
    assert found.out_of_fold is None
    assert (found.metrics["tested"], found.metrics["accuracy"]) == (0, None)
    assert accuracy(found.head.probabilities(rows), targets) == 1


def test_all_rows_honest_in_groups_of_one_is_the_default():
    rows, targets = blobs(60, 3, spread=2)
    flags = np.eye(3, dtype=bool)[targets]
    for labels, multiple in ((targets, False), (flags, True)):
        found = fit_head(
            rows,
            labels,
            classes=NAMES[:3],
            multiple=multiple,
            seed=4,
            groups=100 - np.arange(60)[::-1],
            honest=np.ones(60, dtype=bool),
        )
        wanted = fit(rows, labels, 3, multiple=multiple, seed=4)
        assert found.metrics == wanted.metrics
        np.testing.assert_array_equal(found.out_of_fold, wanted.out_of_fold)


def test_honest_rows_of_several_classes():
    rows, targets = blobs(200, 4)
    flags = np.stack([targets == 0, targets <= 1, targets == 3], axis=1)
    honest = np.arange(200) % 5 < 2
    found = fit_head(rows, flags, classes=NAMES[:3], multiple=True, seed=0, honest=honest)
    assert (np.isnan(found.out_of_fold).any(axis=1) == ~honest).all()
    assert found.metrics["tested"] == 80


@pytest.mark.parametrize(
    ("groups", "honest", "said"),
    [
        ([0, 1], None, r"groups has shape \(2,\); \(3,\)"),
        ([0.0, 1.0, 2.0], None, "groups has dtype float64"),
        (None, [True, False], r"honest has shape \(2,\); \(3,\)"),
        (None, [0, 2, 1], "honest holds 2"),
    ],
)
def test_groups_and_honest_rows_that_do_not_fit_are_refused(
    groups: object, honest: object, said: str
):
    with pytest.raises(ArgumentError, match=said):
        fit_head(
            np.ones((3, 4)),
            [0, 1, 0],
            classes=NAMES[:2],
            multiple=False,
            seed=0,
            groups=groups,
            honest=honest,
        )
