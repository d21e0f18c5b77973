"""least-confidence, margin and entropy."""

from __future__ import annotations

import numpy as np
import pytest

from model.queries import Answers, Pool, pick
from model.queries.scores import pool_uncertainty

EMBEDDINGS = np.eye(5)
THREE = [[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0], [0.6, 0.4, 0.0]]
# Least confidence, 1.5 (1 - max): 0.45, 0.75, 0.9, 0, 0.6. Margin, 1 - (p1 - p2): 0.5, 1, 0.9, 0,
# 0.8. Entropy / ln 3: 0.73, 0.63, 0.99, 0, 0.61.
ORDERS = {
    "least-confidence": [2, 1, 4, 0, 3],
    "margin": [1, 2, 4, 0, 3],
    "entropy": [2, 0, 1, 4, 3],
}


@pytest.mark.parametrize(("strategy", "order"), ORDERS.items())
def test_the_least_certain_come_first_by_hand(strategy: str, order: list[int]):
    generator = np.random.default_rng(0)
    assert pick(strategy, Pool.of(EMBEDDINGS, THREE), 5, generator).tolist() == order
    pool = Pool.of(EMBEDDINGS, THREE, order[:2])
    assert pick(strategy, pool, 2, generator).tolist() == order[2:4]


@pytest.mark.parametrize("strategy", ORDERS)
def test_the_control_that_is_least_certain_decides(strategy: str):
    first = np.array([[0.9, 0.1], [0.8, 0.2], [1.0, 0.0]])
    other = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.4]])
    pool = Pool(np.eye(3), (Answers(first), Answers(other)), np.zeros(0, dtype=np.int64))
    assert pick(strategy, pool, 3, np.random.default_rng(0)).tolist() == [2, 1, 0]


def test_the_largest_over_the_controls_by_hand():
    # 1 - 0.8; 1 - 0.2. Questions: the mean of 1 - |2p - 1|: (0.2 + 1) / 2; 0.
    single, questions = Answers(np.array([[0.9, 0.1], [0.6, 0.4]])), np.array([[0.9, 0.5], [0, 1]])
    pool = Pool(np.eye(2), (single, Answers(questions, True)), np.zeros(0, dtype=np.int64))
    assert pool_uncertainty(pool, "margin").tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("strategy", ORDERS)
def test_equals_come_by_chance(strategy: str):
    pool = Pool.of(np.eye(4), [[0.5, 0.5], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    seen = {tuple(pick(strategy, pool, 4, np.random.default_rng(seed))) for seed in range(40)}
    assert seen == {(0, 1, 2, 3), (0, 2, 1, 3)}


@pytest.mark.parametrize("strategy", ORDERS)
def test_without_answers_all_come_by_chance(strategy: str):
    pool = Pool.of(np.eye(3), None)
    firsts = [int(pick(strategy, pool, 1, np.random.default_rng(seed))[0]) for seed in range(300)]
    # 100 each on average, with a standard deviation of 8.
    assert np.bincount(firsts, minlength=3).min() > 70
