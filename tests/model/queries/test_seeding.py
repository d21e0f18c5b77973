from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from model.head import power_normalise
from model.queries import Pool
from model.queries.seeding import PROPOSALS, spread


def vectors(pool: Pool, factors: np.ndarray) -> np.ndarray:
    """(n, r · d): every r ⊗ x, written out."""
    rows = power_normalise(pool.embeddings).astype(np.float64)
    return (factors[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)


def naive(points: np.ndarray, count: int, generator: np.random.Generator) -> list[int]:
    """The same draws on explicit vectors."""

    def squared(of: int) -> np.ndarray:
        return ((points - points[of]) ** 2).sum(axis=1)

    lengths = (points**2).sum(axis=1)
    first = int(generator.choice(len(points), size=1, p=lengths / lengths.sum())[0])
    generator.random()
    picks, nearest = [first], squared(first)
    while len(picks) < count:
        before = nearest.copy()
        proposals = generator.choice(len(points), size=PROPOSALS, p=before / before.sum())
        for proposal, chance in zip(proposals, generator.random(PROPOSALS), strict=True):
            accepted = chance * before[proposal] < nearest[proposal]
            if accepted and len(picks) < count:
                picks.append(int(proposal))
                nearest = np.minimum(nearest, squared(int(proposal)))
    return picks


@pytest.mark.parametrize("count", [1, 2, 8, 25])
@pytest.mark.parametrize("seed", range(8))
def test_it_draws_as_on_explicit_vectors(seed: int, count: int):
    generator = np.random.default_rng(seed)
    pool = Pool.of(generator.standard_normal((50, 4)), None)
    factors = generator.standard_normal((50, 3)).astype(np.float32)
    picks = spread(pool, np.arange(50), lambda at: factors[at], count, np.random.default_rng(seed))
    expected = naive(vectors(pool, factors), count, np.random.default_rng(seed))
    assert picks.tolist() == expected


def test_the_draws_are_distributed_as_k_means_plus_plus():
    # Four vectors, all orders of three of them: chances by the definition against 2,000 draws.
    pool = Pool.of(np.array([[1.0, 0.2], [0.3, -1.0], [-1.0, 0.5], [0.9, 0.1]]), None)
    factors = np.array([[1.0], [2.0], [0.5], [1.5]], dtype=np.float32)
    points = vectors(pool, factors)
    lengths = (points**2).sum(axis=1)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    counts = dict.fromkeys(permutations(range(4), 3), 0)
    draws = 2000
    generator = np.random.default_rng(0)
    for _ in range(draws):
        picks = spread(pool, np.arange(4), lambda at: factors[at], 3, generator)
        counts[tuple(picks.tolist())] += 1
    for (a, b, c), seen in counts.items():
        two = squared[a]
        three = np.minimum(squared[a], squared[b])
        chance = lengths[a] / lengths.sum() * two[b] / two.sum() * three[c] / three.sum()
        deviation = np.sqrt(draws * chance * (1 - chance))
        assert abs(seen - draws * chance) < 4 * deviation + 1


def test_positions_are_those_of_the_pool():
    pool = Pool.of(np.random.default_rng(0).standard_normal((20, 3)), None)
    some = np.array([3, 5, 7, 11, 13])
    picks = spread(pool, some, None, 5, np.random.default_rng(0))
    assert sorted(picks.tolist()) == some.tolist()


def test_vectors_without_length_come_last_and_by_chance():
    pool = Pool.of(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), None)
    seen = set()
    for seed in range(30):
        picks = spread(pool, np.arange(4), None, 4, np.random.default_rng(seed)).tolist()
        # A vector without length is at distance 1 from the first, though not the first itself.
        assert picks[0] in {1, 3}
        assert sorted(picks) == [0, 1, 2, 3]
        seen.add(tuple(picks))
    assert len(seen) > 4
