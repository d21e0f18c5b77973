from __future__ import annotations

import numpy as np
import pytest

from model.head import power_normalise
from model.queries import Pool, pick
from model.queries.radius import cover_radius
from model.uncertainty import margin


def naive(
    pool: Pool, weights: np.ndarray, radius: float, picks: list[int]
) -> tuple[float, np.ndarray]:
    """The objective after ``picks``, and with each image beside them, from the n × n kernel."""
    rows = power_normalise(pool.embeddings).astype(np.float64)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squared / radius**2)
    covered = kernel[:, [*pool.labelled, *picks]].max(axis=1, initial=0)
    after = np.maximum(kernel, covered[:, None])
    return float(weights @ covered), weights @ after


def pool_of(seed: int, n: int = 40, m: int = 5) -> Pool:
    generator = np.random.default_rng(seed)
    embeddings = generator.standard_normal((n, 6))
    probabilities = generator.dirichlet(np.ones(3), size=n)
    barred = generator.random(n) < 0.2
    pool = Pool.of(embeddings, probabilities, generator.permutation(n)[:m])
    return Pool(pool.embeddings, pool.answers, pool.labelled, barred)


@pytest.mark.parametrize("m", [0, 1, 2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_each_pick_adds_the_most(seed: int, m: int):
    pool = pool_of(seed, m=m)
    picks = pick("uherding", pool, 10, np.random.default_rng(seed)).tolist()
    weights = margin(pool.answers[0].probabilities)
    weights[pool.labelled] = 0
    radius = cover_radius(pool, np.random.default_rng(seed))
    for done, chosen in enumerate(picks):
        before, after = naive(pool, weights, radius, picks[:done])
        free = np.setdiff1d(pool.candidates(), picks[:done])
        assert after[chosen] - before == pytest.approx((after[free] - before).max(), rel=1e-4)
