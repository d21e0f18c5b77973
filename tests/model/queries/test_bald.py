from __future__ import annotations

import math

import numpy as np
import pytest

from model.errors import ArgumentError
from model.head import Head, power_normalise
from model.queries import Answers, Pool, pick
from model.queries.bald import draw_masks, information


def head_of(seed: int, k: int, *, multiple: bool, width: int = 4) -> Head:
    generator = np.random.default_rng(seed)
    temperature = generator.uniform(0.5, 2, k if multiple else 1).astype(np.float32)
    weights = (4 * generator.standard_normal((width, k))).astype(np.float32)
    bias = generator.standard_normal(k).astype(np.float32)
    return Head(tuple(f"class {c}" for c in range(k)), multiple, weights, bias, temperature)


def answers_of(head: Head, embeddings: np.ndarray) -> Answers:
    return Answers(head.probabilities(embeddings), head.multiple, head)


def entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def naive(row: np.ndarray, head: Head, masks: np.ndarray) -> float:
    """The information of one normalised row, one number at a time."""
    draws = []
    for mask in masks:
        logits = [
            (sum(row[d] * mask[d] * head.weights[d, c] for d in range(len(row))) + head.bias[c])
            / head.temperature[c if head.multiple else 0]
            for c in range(len(head.classes))
        ]
        if head.multiple:
            draws.append([1 / (1 + math.exp(-z)) for z in logits])
        else:
            total = sum(math.exp(z) for z in logits)
            draws.append([math.exp(z) / total for z in logits])
    if not head.multiple:
        mean = [sum(p[c] for p in draws) / len(draws) for c in range(len(head.classes))]
        return entropy(mean) - sum(entropy(p) for p in draws) / len(draws)
    found = 0.0
    for c in range(len(head.classes)):
        mean_yes = sum(p[c] for p in draws) / len(draws)
        each = sum(entropy([p[c], 1 - p[c]]) for p in draws) / len(draws)
        found += entropy([mean_yes, 1 - mean_yes]) - each
    return found


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_information_is_that_of_explicit_loops(seed: int, multiple: bool):
    embeddings = np.random.default_rng(seed).standard_normal((9, 4))
    head = head_of(seed, 3, multiple=multiple)
    pool = Pool(embeddings, (answers_of(head, embeddings),), np.array([2]))
    masks = draw_masks(head, np.random.default_rng(seed))
    found = information(pool, head, masks)
    rows = power_normalise(embeddings).astype(np.float64)
    expected = [naive(row, head, masks) for row in rows]
    expected[2] = 0
    assert found == pytest.approx(expected, abs=1e-5)
    picks = pick("bald", pool, 3, np.random.default_rng(seed))
    assert picks.tolist() == np.argsort(-found)[:3].tolist()


def test_information_by_hand():
    # One input, kept (doubled) or dropped: logits ±2 ln 3 or 0, so p is (0.9, 0.1) or (1/2, 1/2).
    # Mean (0.7, 0.3): H = 0.610864; each: (0.325083 + 0.693147) / 2 = 0.509115.
    weights = np.array([[math.log(3) / 2, -math.log(3) / 2]], dtype=np.float32)
    head = Head(("a", "b"), False, weights, np.zeros(2, np.float32), np.ones(1, np.float32))
    pool = Pool(np.array([[9.0], [0.0]]), (answers_of(head, np.eye(2)[:, :1]),), np.zeros(0, int))
    found = information(pool, head, np.array([[2.0], [0.0]], dtype=np.float32))
    # An image without features is the same by every draw.
    assert found == pytest.approx([0.610864 - 0.509115, 0], abs=1e-6)


def test_half_of_the_inputs_are_dropped_and_the_others_doubled():
    masks = draw_masks(head_of(0, 2, multiple=False, width=400), np.random.default_rng(0))
    assert set(np.unique(masks)) == {0, 2}
    assert masks.mean() == pytest.approx(1, abs=0.03)


def test_the_information_of_several_controls_adds():
    embeddings = np.random.default_rng(3).standard_normal((20, 4))
    heads = head_of(1, 3, multiple=False), head_of(2, 2, multiple=True)
    answers = tuple(answers_of(head, embeddings) for head in heads)
    pool = Pool(embeddings, answers, np.zeros(0, dtype=np.int64))
    generator = np.random.default_rng(5)
    total = sum(information(pool, head, draw_masks(head, generator)) for head in heads)
    picks = pick("bald", pool, 20, np.random.default_rng(5))
    assert picks.tolist() == np.argsort(-total).tolist()


def test_a_class_without_labels_teaches_nothing():
    head = head_of(1, 3, multiple=False)
    absent = Head(head.classes, False, head.weights, head.bias.copy(), head.temperature)
    absent.weights[:, 2], absent.bias[2] = 0, -1e4
    two = Head(head.classes[:2], False, absent.weights[:, :2], absent.bias[:2], head.temperature)
    embeddings = np.random.default_rng(0).standard_normal((6, 4))
    masks = draw_masks(two, np.random.default_rng(0))
    pool = Pool.of(embeddings, None)
    assert information(pool, absent, masks) == pytest.approx(information(pool, two, masks))


def test_answers_without_a_head_are_refused():
    pool = Pool.of(np.eye(2), [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ArgumentError, match=r"answers\[0\]\.head is None; bald asks the head"):
        pick("bald", pool, 1, np.random.default_rng(0))


def test_a_head_of_another_width_is_refused():
    head = head_of(0, 2, multiple=False, width=3)
    pool = Pool(np.eye(2), (Answers(np.full((2, 2), 0.5), False, head),), np.zeros(0, int))
    with pytest.raises(ArgumentError, match=r"answers\[0\]\.head reads .* width 3; 2 is needed"):
        pick("bald", pool, 1, np.random.default_rng(0))
