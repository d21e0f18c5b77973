import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ArgumentError
from model.head import fit_head, power_normalise
from model.pool_prior import RIDGE, PoolPrior, sample_pool
from model.propagation import neighbour_graph, propagate


def groups(
    generator: np.random.Generator, each: int, classes: int, width: int = 16, noise: float = 0.35
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """``each`` normalised rows around every one of ``classes`` random centres."""
    centres = generator.normal(size=(classes, width))
    truth = np.repeat(np.arange(classes), each)
    rows = centres[truth] + noise * generator.normal(size=(len(truth), width))
    return power_normalise(rows.astype(np.float32)), truth


def test_directions_are_the_ridge_regression_on_what_spreads():
    generator = np.random.default_rng(0)
    rows, truth = groups(generator, 10, 3, width=6)
    labelled = np.array([0, 1, 10, 20])
    flags = np.eye(3)[truth[labelled]]
    included = np.array([[1, 1], [1, 0], [1, 1], [1, 1]], dtype=np.float64)
    prior = PoolPrior(rows)
    weights, bias = prior.directions(prior.seeds(rows[labelled]), flags, included)

    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    # Six axes are all there are, so the distances are those of the rows.
    graph = neighbour_graph(rows - rows.mean(axis=0))
    gram = centred.T @ centred
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    for model in range(2):
        seeds = np.zeros((len(rows), 3), dtype=np.float32)
        known = included[:, model] > 0
        np.add.at(seeds, labelled[known], flags[known])
        shares = propagate(graph, seeds) / flags[known].sum(axis=0)
        shares = shares / shares.sum(axis=1, keepdims=True)
        mean = shares.mean(axis=0)
        expected = np.linalg.solve(gram + ridge, centred.T @ (shares - mean))
        np.testing.assert_allclose(weights[model], expected, atol=2e-4)
        np.testing.assert_allclose(bias[model], mean - rows.mean(axis=0) @ expected, atol=2e-4)


def test_a_class_asked_ten_times_is_not_taken_for_commoner():
    generator = np.random.default_rng(1)
    rows, truth = groups(generator, 60, 2)
    labelled = np.array([*range(10), 60])
    prior = PoolPrior(rows)
    weights, bias = prior.directions(
        prior.seeds(rows[labelled]), np.eye(2)[truth[labelled]], np.ones((11, 1))
    )
    said = (rows @ weights[0] + bias[0]).argmax(axis=1)
    assert (said == truth).mean() > 0.95
    assert abs((said == 0).mean() - 0.5) < 0.05


def test_images_outside_the_pool_stand_between_their_nearest():
    generator = np.random.default_rng(2)
    rows, _ = groups(generator, 30, 2)
    prior = PoolPrior(rows)
    inside = prior.seeds(rows[[4]]).toarray()[0]
    assert inside[4] == pytest.approx(1)
    outside = prior.seeds(power_normalise(rows[[4]] + 0.05)).toarray()[0]
    assert outside.sum() == pytest.approx(1, abs=1e-6)
    assert np.count_nonzero(outside) == 15
    assert outside[:30].sum() == pytest.approx(1, abs=1e-6)


def test_a_few_labels_with_a_pool_beat_a_few_labels_alone():
    gained = []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        rows, truth = groups(generator, 100, 5, noise=0.8)
        labelled = np.concatenate([np.flatnonzero(truth == c)[:2] for c in range(5)])
        rest = np.setdiff1d(np.arange(len(rows)), labelled)
        names = [str(c) for c in range(5)]
        right = []
        for pool in (None, PoolPrior(rows)):
            fit = fit_head(
                rows[labelled], truth[labelled], classes=names, multiple=False, seed=0, pool=pool
            )
            said = fit.head.probabilities(rows[rest]).argmax(axis=1)
            right.append((said == truth[rest]).mean())
        gained.append(right[1] - right[0])
    assert np.mean(gained) > 0.03


def test_a_pool_that_misleads_is_not_trusted():
    generator = np.random.default_rng(4)
    rows, _ = groups(generator, 200, 2, noise=0.3)
    # What is asked for runs across the two groups.
    truth = (rows[:, 0] > np.median(rows[:, 0])).astype(np.int64)
    shuffled = generator.permutation(len(rows))
    labelled, rest = shuffled[:200], shuffled[200:]
    accuracy = []
    for pool in (None, PoolPrior(rows)):
        fit = fit_head(
            rows[labelled],
            truth[labelled],
            classes=["no", "yes"],
            multiple=False,
            seed=0,
            pool=pool,
        )
        said = fit.head.probabilities(rows[rest]).argmax(axis=1)
        accuracy.append((said == truth[rest]).mean())
    assert accuracy[1] >= accuracy[0] - 0.03


def test_one_label_of_each_class_is_enough_to_use_the_pool():
    generator = np.random.default_rng(5)
    rows, truth = groups(generator, 80, 4, noise=0.5)
    labelled = np.array([0, 80, 160, 240])
    fit = fit_head(
        rows[labelled],
        truth[labelled],
        classes=list("abcd"),
        multiple=False,
        seed=0,
        pool=PoolPrior(rows),
    )
    assert fit.out_of_fold is None
    assert (fit.head.probabilities(rows).argmax(axis=1) == truth).mean() > 0.9


def test_a_head_of_several_choices_ignores_the_pool():
    generator = np.random.default_rng(6)
    rows, truth = groups(generator, 20, 2)
    flags = np.eye(2, dtype=np.bool_)[truth]
    heads = [
        fit_head(rows, flags, classes=["a", "b"], multiple=True, seed=0, pool=pool).head
        for pool in (None, PoolPrior(rows))
    ]
    np.testing.assert_array_equal(heads[0].weights, heads[1].weights)


def test_equal_images_give_no_direction():
    rows = power_normalise(np.ones((20, 4), dtype=np.float32))
    prior = PoolPrior(rows)
    weights, bias = prior.directions(prior.seeds(rows[:2]), np.eye(2), np.ones((2, 1)))
    assert np.isfinite(weights).all()
    assert np.isfinite(bias).all()
    np.testing.assert_allclose(weights, 0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4), (0, 4), (5,)])
def test_too_few_images_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ArgumentError, match="u >= 3"):
        PoolPrior(np.zeros(shape, dtype=np.float32))


def test_a_pool_of_another_width_is_refused():
    generator = np.random.default_rng(7)
    rows, truth = groups(generator, 20, 2)
    other, _ = groups(generator, 20, 2, width=8)
    with pytest.raises(ArgumentError, match="pool has width 8; 16 is needed"):
        fit_head(rows, truth, classes=["a", "b"], multiple=False, seed=0, pool=PoolPrior(other))


def test_a_sample_has_what_was_asked_for():
    generator = np.random.default_rng(8)
    assert sample_pool(5, generator, most=9).tolist() == [0, 1, 2, 3, 4]
    drawn = sample_pool(1000, generator, most=100)
    assert len(np.unique(drawn)) == 100
    assert (np.diff(drawn) > 0).all()
    assert 350 < drawn.mean() < 650
