from __future__ import annotations

import numpy as np

from model.queries import Pool, pick


def group(axis: int, size: int) -> np.ndarray:
    """Images around one direction of three: the middle in front, the others each its own way."""
    rows = np.zeros((size, 9))
    rows[:, axis] = 1
    rows[1:, 3:][np.arange(size - 1), np.arange(size - 1)] = 0.05
    return rows


def test_the_middle_of_the_largest_group_without_a_label_comes_first():
    embeddings = np.concatenate([group(0, 7), group(1, 5), group(2, 3)])
    generator = np.random.default_rng(0)
    assert pick("typiclust", Pool.of(embeddings, None), 3, generator).tolist() == [0, 7, 12]
    # With a label in the largest group it comes last.
    pool = Pool.of(embeddings, None, [3])
    assert pick("typiclust", pool, 2, np.random.default_rng(0)).tolist() == [7, 12]
