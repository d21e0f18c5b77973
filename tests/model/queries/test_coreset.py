from __future__ import annotations

import numpy as np
import pytest

from model.head import power_normalise
from model.queries import Pool, pick


def directions(*degrees: float) -> np.ndarray:
    """Embeddings whose power-normalised rows point into these directions of the plane."""
    angles = np.deg2rad(np.array(degrees))
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.sign(points) * points**2


def naive(pool: Pool, count: int, first: int | None) -> list[int]:
    rows = power_normalise(pool.embeddings).astype(np.float64)
    distances = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(axis=2))
    picks = [] if first is None else [first]
    while len(picks) < count:
        free = np.setdiff1d(pool.candidates(), picks)
        nearest = distances[np.ix_(free, [*pool.labelled, *picks])].min(axis=1)
        picks.append(int(free[nearest.argmax()]))
    return picks


def test_the_farthest_comes_next_by_hand():
    # From 0°: 180° is the farthest. Then 90° and 100° are 90° and 80° from the nearest, and after
    # 90° the farthest is 40°, 40° from 0°; 100° is only 10° from 90°.
    pool = Pool.of(directions(0, 40, 90, 100, 180), None, [0])
    picks = pick("coreset", pool, 4, np.random.default_rng(0))
    assert picks.tolist() == [4, 2, 1, 3]


def test_without_labels_the_middle_comes_first():
    # The mean of the unit vectors at 0°, 10°, 20°, 30° and 90° points to 28°.
    pool = Pool.of(directions(0, 10, 20, 30, 90), None)
    assert pick("coreset", pool, 3, np.random.default_rng(0)).tolist() == [3, 4, 0]


@pytest.mark.parametrize("m", [0, 1, 6])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_greedy_k_centre(seed: int, m: int):
    generator = np.random.default_rng(seed)
    barred = generator.random(60) < 0.2
    pool = Pool.of(generator.standard_normal((60, 4)), None, generator.permutation(60)[:m])
    pool = Pool(pool.embeddings, (), pool.labelled, barred)
    picks = pick("coreset", pool, 20, generator).tolist()
    rows = power_normalise(pool.embeddings).astype(np.float64)
    free = pool.candidates()
    central = int(free[((rows[free] - rows.mean(axis=0)) ** 2).sum(axis=1).argmin()])
    assert picks == naive(pool, 20, None if m else central)


@pytest.mark.parametrize("m", [0, 3])
def test_beyond_the_farthest_4096_it_is_still_exact(m: int):
    # A few far groups and many near images: the picks soon leave the 4,096 farthest.
    generator = np.random.default_rng(m)
    middles = generator.standard_normal((12, 5))
    embeddings = middles[generator.integers(12, size=9000)]
    embeddings += generator.uniform(0.01, 0.2, (9000, 1)) * generator.standard_normal((9000, 5))
    pool = Pool.of(embeddings, None, generator.permutation(9000)[:m])
    picks = pick("coreset", pool, 60, np.random.default_rng(0)).tolist()
    rows = power_normalise(pool.embeddings).astype(np.float64)
    known = [*pool.labelled.tolist(), *picks[: 0 if m else 1]]
    nearest = ((rows[:, None] - rows[None, known]) ** 2).sum(axis=2).min(axis=1)
    for chosen in picks if m else picks[1:]:
        assert nearest[chosen] == pytest.approx(nearest.max(), abs=1e-6)
        nearest = np.minimum(nearest, ((rows - rows[chosen]) ** 2).sum(axis=1))


def test_a_twin_of_a_label_comes_last():
    embeddings = np.random.default_rng(0).standard_normal((12, 5))
    embeddings[7] = embeddings[2]
    picks = pick("coreset", Pool.of(embeddings, None, [2]), 11, np.random.default_rng(1))
    assert picks[-1] == 7
