from __future__ import annotations

import numpy as np
import pytest

from model.head import power_normalise
from model.queries import Pool
from model.queries.clusters import SAMPLE, k_means
from model.queries.seeding import spread


def squared_to(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((rows[:, None] - centres[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_lloyds_algorithm_from_the_same_seeds(seed: int, count: int):
    pool = Pool.of(np.random.default_rng(seed).standard_normal((60, 4)), None)
    rows = power_normalise(pool.embeddings).astype(np.float64)
    generator = np.random.default_rng(seed)
    generator.permutation(60)
    centres = rows[spread(pool, np.arange(60), None, count, generator)]
    for _ in range(100):
        nearest = squared_to(rows, centres).argmin(axis=1)
        centres = np.stack([rows[nearest == c].mean(axis=0) for c in range(count)])
    found = k_means(pool, count, np.random.default_rng(seed))
    assert found.tolist() == squared_to(rows, centres).argmin(axis=1).tolist()


def test_groups_far_apart_are_found():
    truth = np.repeat([0, 1, 2], [5, 9, 7])
    generator = np.random.default_rng(0)
    embeddings = np.eye(3)[truth] + 0.001 * generator.random((21, 3))
    found = k_means(Pool.of(embeddings, None), 3, generator)
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 3
    assert len(set(found)) == 3


def test_fewer_different_images_than_clusters_leave_some_empty():
    embeddings = np.repeat(np.eye(2), 4, axis=0)
    found = k_means(Pool.of(embeddings, None), 5, np.random.default_rng(0))
    assert ((found >= 0) & (found < 5)).all()
    assert not set(found[:4]) & set(found[4:])


def test_beyond_the_sample_every_image_gets_a_cluster():
    n = SAMPLE + 1000
    truth = np.random.default_rng(0).integers(3, size=n)
    embeddings = np.eye(3, dtype=np.float16)[truth]
    found = k_means(Pool.of(embeddings, None), 3, np.random.default_rng(0))
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 3
