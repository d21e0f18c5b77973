from __future__ import annotations

import numpy as np
import pytest

from model.head import power_normalise
from model.queries import Pool, pick
from model.queries.clusters import k_means
from model.queries.typiclust import MEMBERS, NEIGHBOURS, by_typicality


def group(axis: int, size: int) -> np.ndarray:
    """Images around one direction of three: the middle in front, the others each its own way."""
    rows = np.zeros((size, 9))
    rows[:, axis] = 1
    rows[1:, 3:][np.arange(size - 1), np.arange(size - 1)] = 0.05
    return rows


GROUPS = np.concatenate([group(0, 7), group(1, 5), group(2, 3)])


def test_the_middle_of_the_largest_group_without_a_label_comes_first():
    generator = np.random.default_rng(0)
    assert pick("typiclust", Pool.of(GROUPS, None), 3, generator).tolist() == [0, 7, 12]
    # With a label in the largest group it comes last.
    pool = Pool.of(GROUPS, None, [3])
    assert pick("typiclust", pool, 2, np.random.default_rng(0)).tolist() == [7, 12]


def test_barred_images_make_groups_but_are_not_picked():
    pool = Pool.of(GROUPS, None)
    pool = Pool(pool.embeddings, (), pool.labelled, np.isin(np.arange(15), [0, 1, 2, 12]))
    picks = pick("typiclust", pool, 3, np.random.default_rng(0)).tolist()
    # The group of seven is still the largest, though three others of it are left.
    assert picks[0] in {3, 4, 5, 6}
    assert picks[1] == 7
    assert picks[2] in {13, 14}


def typicality(rows: np.ndarray) -> np.ndarray:
    """By the definition, one distance at a time."""
    found = []
    for i, row in enumerate(rows):
        others = sorted(np.linalg.norm(row - other) for j, other in enumerate(rows) if j != i)
        found.append(1 / np.mean(others[:NEIGHBOURS]))
    return np.array(found)


@pytest.mark.parametrize("size", [2, 5, 21, 60])
def test_typicality_is_that_of_the_definition(size: int):
    generator = np.random.default_rng(size)
    pool = Pool.of(generator.standard_normal((size + 10, 4)), None)
    members = generator.permutation(size + 10)[:size]
    found = by_typicality(pool, members, generator)
    assert sorted(found.tolist()) == sorted(members.tolist())
    place = {position: at for at, position in enumerate(members.tolist())}
    values = typicality(power_normalise(pool.embeddings[members]).astype(np.float64))
    ordered = values[[place[position] for position in found.tolist()]]
    assert (np.diff(ordered) <= 1e-5 * ordered[:-1]).all()


def test_typicality_by_hand():
    # Directions of 0°, 10°, 20° and 60° in the plane: the mean chords to the three others are
    # (0.1743 + 0.3473 + 1) / 3 = 0.507, (0.1743 + 0.1743 + 0.8452) / 3 = 0.398,
    # (0.3473 + 0.1743 + 0.6840) / 3 = 0.402 and (1 + 0.8452 + 0.6840) / 3 = 0.843.
    angles = np.deg2rad([0, 10, 20, 60])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1) ** 2
    found = by_typicality(Pool.of(embeddings, None), np.arange(4), np.random.default_rng(0))
    assert found.tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize("m", [0, 4])
@pytest.mark.parametrize("seed", range(4))
def test_each_pick_is_the_most_typical_of_the_cluster_whose_turn_it_is(seed: int, m: int):
    generator = np.random.default_rng(seed)
    pool = Pool.of(generator.standard_normal((80, 4)), None, generator.permutation(80)[:m])
    barred = generator.random(80) < 0.2
    pool = Pool(pool.embeddings, (), pool.labelled, barred)
    picks = pick("typiclust", pool, 10, np.random.default_rng(seed)).tolist()
    clusters = k_means(pool, m + 10, np.random.default_rng(seed))
    rows = power_normalise(pool.embeddings).astype(np.float64)
    known = np.bincount(clusters[pool.labelled], minlength=m + 10)
    sizes = np.bincount(clusters, minlength=m + 10)
    for done, chosen in enumerate(picks):
        free = np.setdiff1d(pool.candidates(), picks[:done])
        # Of the clusters with a candidate the one with the fewest labels, of those the largest.
        best = min((known[c], -sizes[c]) for c in clusters[free])
        mine = clusters[chosen]
        assert (known[mine], -sizes[mine]) == best
        members = np.flatnonzero(clusters == mine)
        if len(members) > 1:
            values = typicality(rows[members])
            left = np.isin(members, free)
            assert values[members == chosen] == pytest.approx(values[left].max(), rel=1e-5)
        known[mine] += 1


def test_in_a_vast_cluster_typicality_is_that_among_some():
    n = MEMBERS + 500
    generator = np.random.default_rng(0)
    embeddings = generator.standard_normal((n, 3)).astype(np.float32)
    pool = Pool.of(embeddings, None)
    found = by_typicality(pool, np.arange(n), generator)
    assert sorted(found.tolist()) == list(range(n))
    picks = pick("typiclust", pool, 1, np.random.default_rng(0))
    rows = power_normalise(embeddings).astype(np.float64)
    spread = np.sort(np.linalg.norm(rows[:, None] - rows[picks][None], axis=2)[:, 0])
    others = np.random.default_rng(1).permutation(n)[:200]
    usual = [np.sort(np.linalg.norm(rows - rows[i], axis=1))[1:21].mean() for i in others]
    # Of thousands the first is among the most typical.
    assert spread[1:21].mean() < np.quantile(usual, 0.1)
