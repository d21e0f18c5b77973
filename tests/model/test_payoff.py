from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from model.errors import ArgumentError
from model.head import power_normalise
from model.payoff import (
    FOLDS,
    REPEATS,
    Comparison,
    Labelled,
    Stage,
    Verdict,
    comparable,
    compare_picks,
    corrected_error,
)
from model.pool_prior import PoolPrior

CLASSES = ("a", "b", "c")


def blobs(n: int, seed: int, spread: float = 0.6) -> Labelled:
    """Three clouds of points in eight dimensions."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(3, 8))
    targets = random.integers(0, 3, n)
    return Labelled(centres[targets] + spread * random.normal(size=(n, 8)), targets)


def compared(picked: Labelled, audit: Labelled, stage: Stage = Stage.FIRST) -> Comparison:
    return compare_picks(picked, audit, stage=stage, classes=CLASSES, multiple=False, seed=1)


def test_what_is_left_of_the_audit_labels_without_a_fold():
    # Of 52 labels, two folds have 11 and the others 10: without the largest there are 41.
    assert [comparable(n) for n in (50, 52, 55, 0)] == [40, 41, 44, 0]


@given(st.integers(5, 400))
def test_every_fold_leaves_at_least_as_many(audited: int):
    sizes = np.bincount(np.arange(audited) % FOLDS)
    assert comparable(audited) == audited - sizes.max()


def test_corrected_error_by_hand():
    # Variance 0.01; 4 folds, a quarter tested for each trained: (1/4 + 1/4) * 0.01.
    differences = np.array([0.1, -0.1, 0.1, -0.1]) * np.sqrt(3 / 4)
    assert corrected_error(differences, tested=10, trained=40) == pytest.approx(np.sqrt(0.005))
    with pytest.raises(ArgumentError, match="at least 2"):
        corrected_error(np.zeros(1), tested=1, trained=1)


def test_picks_of_one_class_do_harm():
    pool, audit = blobs(400, 0), blobs(60, 1)
    found = compared(pool.at(np.flatnonzero(pool.targets == 0)), audit)
    assert found.verdict is Verdict.HURTS
    assert (found.compared, found.learned, found.audited) == (48, 0, 60)
    # Who has seen one class only says that one.
    assert found.queue == pytest.approx((audit.targets == 0).mean())
    assert found.random > 0.9
    assert found.difference == pytest.approx(found.queue - found.random)
    assert found.low < found.difference < found.high < 0
    assert found.sentence.startswith(
        "Choosing does harm: with the first 48 labels that the queue picked, the model gets "
    )
    assert " points fewer right than with as many random ones (-" in found.sentence
    assert found.sentence.endswith(", 60 audit labels).")
    assert found.hurt_probability < 0.001


def many_classes(n: int, seed: int, spread: float) -> Labelled:
    """Thirty clouds of points in twelve dimensions, in turn."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(30, 12))
    targets = random.permutation(np.arange(n) % 30)
    return Labelled(centres[targets] + spread * random.normal(size=(n, 12)), targets)


def test_typical_picks_of_every_class_help():
    found = compare_picks(
        many_classes(90, 4, spread=0.05),
        many_classes(80, 2, spread=0.8),
        stage=Stage.FIRST,
        classes=[str(c) for c in range(30)],
        multiple=False,
        seed=1,
    )
    assert found.verdict is Verdict.HELPS
    assert 0 < found.low < found.difference < found.high
    assert found.sentence.startswith(
        "Choosing pays: with the first 64 labels that the queue picked, the model gets "
    )
    assert " points more right than with as many random ones (+" in found.sentence
    assert found.hurt_probability > 0.975


def test_the_last_picks_are_compared_on_top_of_those_before():
    picked, audit = blobs(100, 0), blobs(50, 1)
    last = compared(picked, audit, Stage.LAST)
    assert (last.compared, last.learned) == (40, 60)
    first = compared(picked, audit)
    assert (first.compared, first.learned) == (40, 0)
    # With 40 picks there is nothing before the last 40.
    forty = picked.at(slice(0, 40))
    a, b = compared(forty, audit, Stage.LAST), compared(forty, audit)
    assert (a.difference, a.error) == (b.difference, b.error)


def test_the_interval_is_students():
    found = compared(blobs(60, 0), blobs(50, 9, spread=2.0))
    half = stats.t.ppf(0.975, FOLDS * REPEATS - 1) * found.error
    assert found.high - found.difference == pytest.approx(half)
    assert found.difference - found.low == pytest.approx(half)
    assert found.hurt_probability == pytest.approx(
        stats.t.cdf(found.difference / found.error, FOLDS * REPEATS - 1)
    )


def test_images_alone_leave_out_the_draw_of_labels():
    found = [compared(blobs(60, s), blobs(50, 100 + s, spread=2.0)) for s in range(2, 8)]
    assert np.mean([c.error for c in found]) > 1.1 * np.mean([c.image_error for c in found])


def test_two_that_never_differ_leave_one_image_of_doubt():
    found = compared(blobs(60, 0, spread=0.01), blobs(50, 1, spread=0.01))
    assert (found.queue, found.random, found.difference) == (1, 1, 0)
    assert found.error == 1 / 50
    assert found.verdict is Verdict.NO_DIFFERENCE


def test_the_same_labels_give_the_same_numbers():
    picked, audit = blobs(60, 0), blobs(50, 1, spread=1.5)
    assert compared(picked, audit) == compared(picked, audit)


def test_several_choices_count_as_right_when_every_class_is():
    random = np.random.default_rng(0)
    rows = random.normal(size=(160, 6))
    flags = rows[:, :3] > 0
    pool, audit = Labelled(rows[:100], flags[:100]), Labelled(rows[100:], flags[100:])
    found = compare_picks(pool, audit, stage=Stage.FIRST, classes=CLASSES, multiple=True)
    assert found.compared == 48
    assert 0.3 < found.random < 1
    assert found.verdict is Verdict.NO_DIFFERENCE


def test_too_little_says_how_much_more():
    few = compared(blobs(500, 0), blobs(38, 1))
    assert (few.verdict, few.missing, few.difference) == (Verdict.CANNOT_TELL, 12, None)
    assert few.sentence == (
        "Cannot tell yet whether choosing pays: 12 more audit labels are needed."
    )
    assert few.hurt_probability == 1
    short = compared(blobs(30, 0), blobs(50, 1))
    assert (short.verdict, short.missing) == (Verdict.CANNOT_TELL, 10)
    assert short.sentence.endswith(": 10 more labels from the queue are needed.")


def test_what_the_unlabelled_images_say_is_learned_by_both():
    pool = blobs(300, 11)
    picked, audit = blobs(60, 0, spread=1.2), blobs(50, 1, spread=1.2)
    prior = PoolPrior(power_normalise(pool.embeddings))
    alone = compared(picked, audit)
    told = compare_picks(
        picked, audit, stage=Stage.FIRST, classes=CLASSES, multiple=False, seed=1, pool=prior
    )
    assert told.compared == alone.compared
    assert (told.queue, told.random) != (alone.queue, alone.random)


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="each row needs its target"):
        Labelled(np.zeros((3, 2)), np.zeros(2, dtype=np.int64))


def test_a_queue_that_is_random_is_seldom_called_anything_else():
    """30 projects: with the correction 1 or 2 are expected to be called, and 6 would be odd."""
    verdicts = [
        compared(blobs(60, 100 + seed, spread=1.2), blobs(50, 200 + seed, spread=1.2)).verdict
        for seed in range(30)
    ]
    assert verdicts.count(Verdict.NO_DIFFERENCE) >= 25
