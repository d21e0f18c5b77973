"""Replays of labelling, small enough to follow by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import model.queries as queries
from model.errors import ArgumentError
from model.head import fit_head
from model.metrics import accuracy
from model.queries import Pool
from model.queries.random import random
from model.simulate import Features, Point, draw_prior, next_batch, replay

CLASSES = ("a", "b", "c")
SEEN = "seen"


def blobs(count: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """(count, 6) embeddings around the centres of three classes, and their classes."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, count)
    centres = np.eye(3, 6) * 3
    return (centres[targets] + generator.normal(0, 1, (count, 6))).astype(np.float16), targets


X, Y = blobs(90, 1)
X_TEST, Y_TEST = blobs(200, 2)


def run(strategy: str, budgets: list[int], y: NDArray[np.int64] = Y, **more: Any) -> list[Point]:
    chosen: dict[str, Any] = {"classes": CLASSES, "seed": 0} | more
    return replay(X, y, X_TEST, Y_TEST, strategy=strategy, budgets=budgets, **chosen)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Pool, int, NDArray[np.int64]]]:
    """A strategy ``seen``, which picks the least certain of the pool; what it was asked and said.

    The contents of the pools are kept, too.
    """
    found: list[tuple[Pool, int, NDArray[np.int64]]] = []

    def seen(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        picks = random(pool, count, generator)
        if pool.answers:
            free = pool.candidates()
            surest = pool.answers[0].probabilities[free].max(axis=1)
            picks = free[np.argsort(surest, kind="stable")][:count]
        found.append((pool, count, picks))
        return picks

    monkeypatch.setattr(queries, "STRATEGIES", {**queries.STRATEGIES, SEEN: seen})
    return found


def test_every_budget_is_met_exactly(asked: list[Any]) -> None:
    told: list[int] = []
    points = run(SEEN, [5, 12, 40], batch=4, on_progress=told.append)
    assert [point.labels for point in points] == [5, 12, 40]
    assert told == [4, 5, 9, 12, 16, 20, 24, 28, 32, 36, 40]
    assert [count for _, count, _ in asked] == [4, 1, 4, 3, 4, 4, 4, 4, 4, 4, 4]


def test_the_points_are_those_of_heads_fitted_by_hand(asked: list[Any]) -> None:
    points = run(SEEN, [20, 40], batch=20)
    labelled: list[int] = []
    for point, (_, _, picks) in zip(points, asked, strict=True):
        labelled += picks.tolist()
        head = fit_head(X[labelled], Y[labelled], classes=CLASSES, multiple=False, seed=0).head
        assert point.accuracy == accuracy(head.probabilities(X_TEST), Y_TEST)
    pool = asked[1][0]
    first = asked[0][2]
    head = fit_head(X[first], Y[first], classes=CLASSES, multiple=False, seed=0).head
    answers = pool.answers[0]
    np.testing.assert_array_equal(answers.probabilities, head.probabilities(X))
    assert answers.label_counts is not None
    assert answers.label_counts.tolist() == np.bincount(Y[first], minlength=3).tolist()
    assert pool.labelled.tolist() == sorted(first)
    assert points[-1].accuracy > 0.85


def test_nothing_is_learned_before_there_are_two_classes(asked: list[Any]) -> None:
    y = np.where(np.arange(90) == 17, 1, 2)
    points = run(SEEN, [1, 2, 90], y, batch=1)
    first = int(y[asked[0][2][0]])
    assert points[0].accuracy == np.mean(first == Y_TEST)
    knowing = [bool(pool.answers) for pool, _, _ in asked]
    met = [int(picks[0]) for _, _, picks in asked].index(17)
    assert knowing == [step > max(met, 1) for step in range(90)]


def test_a_strategy_sees_no_label_that_it_has_not_asked_for(asked: list[Any]) -> None:
    run(SEEN, [30], batch=5)
    before = [picks.tolist() for _, _, picks in asked]
    hidden = np.setdiff1d(np.arange(90), np.concatenate(before))
    asked.clear()
    changed = Y.copy()
    changed[hidden] = (changed[hidden] + 1) % 3
    run(SEEN, [30], changed, batch=5)
    assert [picks.tolist() for _, _, picks in asked] == before


def test_strategies_of_a_seed_start_alike(asked: list[Any]) -> None:
    (chosen,), (drawn,) = (run(name, [8], start=8) for name in (SEEN, "random"))
    assert chosen == drawn
    assert asked == []
    starts = []
    for seed in (0, 0, 1):
        run(SEEN, [12], start=8, seed=seed)
        pool = asked[-1][0]
        assert len(pool.answers) == 1
        starts.append(pool.labelled.tolist())
    assert len(starts[0]) == 8
    assert starts[0] == starts[1] != starts[2]


@pytest.mark.parametrize("strategy", ["random", SEEN])
def test_the_seed_decides(strategy: str, asked: list[Any]) -> None:
    first = run(strategy, [10, 30])
    assert run(strategy, [10, 30]) == first
    assert run(strategy, [10, 30], seed=1) != first


def test_unlabelled_images_have_a_say_where_they_are_given_one(asked: list[Any]) -> None:
    prior = draw_prior(X, 0)
    (point,) = run(SEEN, [6], prior=prior)
    rows = asked[0][2]
    head = fit_head(
        X[rows], Y[rows], classes=CLASSES, multiple=False, seed=0, pool=draw_prior(X, 0)
    ).head
    assert point.accuracy == accuracy(head.probabilities(X_TEST), Y_TEST)
    assert [point] != run(SEEN, [6])
    assert draw_prior(X[:2], 0) is None


def test_batches_grow_with_the_labels() -> None:
    assert [next_batch(n) for n in (0, 50, 109, 110, 2000)] == [10, 10, 10, 11, 200]


def test_a_fine_tune_gives_the_features_to_go_on_with(asked: list[Any]) -> None:
    calls: list[tuple[list[int], list[int], bool]] = []
    better = np.eye(3, dtype=np.float32)

    def finetune(positions: NDArray[np.int64], labels: NDArray[np.int64], last: bool) -> Features:
        calls.append((positions.tolist(), labels.tolist(), last))
        return Features(better[Y], better[Y_TEST])

    points = run(SEEN, [20, 40], batch=20, finetune=finetune, finetune_at=[25, 40])
    picks = np.concatenate([picks for _, _, picks in asked])
    assert [count for _, count, _ in asked] == [20, 5, 15]
    assert calls == [
        (picks[:n].tolist(), Y[picks[:n]].tolist(), last) for n, last in ((25, False), (40, True))
    ]
    assert asked[1][0].embeddings.shape == (90, 6)
    assert asked[2][0].embeddings.shape == (90, 3)
    assert points[1].accuracy == 1


def test_rows_that_shaped_the_network_do_not_judge_its_head(asked: list[Any]) -> None:
    trained = np.arange(90) % 4 != 0

    def finetune(positions: NDArray[np.int64], labels: NDArray[np.int64], last: bool) -> Features:
        return Features(X, X_TEST, trained=trained)

    (point,) = run(SEEN, [60], batch=60, finetune=finetune, finetune_at=[60])
    rows = asked[0][2]
    head = fit_head(
        X[rows], Y[rows], classes=CLASSES, multiple=False, seed=0, honest=~trained[rows]
    ).head
    assert point.accuracy == accuracy(head.probabilities(X_TEST), Y_TEST)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budgets": []}, r"budgets=\[\]; ascending"),
        ({"budgets": [0, 5]}, r"budgets=\[0, 5\]; ascending"),
        ({"budgets": [5, 5]}, r"budgets=\[5, 5\]; ascending"),
        ({"budgets": [5, 91]}, "budgets ends with 91; the pool has 90 images"),
        ({"start": 6}, "start=6; 0 to 5, the first budget, is allowed"),
        ({"start": -1}, "start=-1"),
        ({"batch": 0}, "batch=0; 1 or more"),
        ({"strategy": "magic"}, "strategy='magic'"),
        ({"y": Y + 1}, r"targets\[\d+\] is 3"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        run(**({"strategy": "random", "budgets": [5, 10]} | change))


@pytest.mark.parametrize("wrong", [lambda free: free[:0], lambda free: free[[0, 0]]])
def test_a_strategy_that_picks_nothing_or_twice_is_named(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> None:
    def broken(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        return wrong(pool.candidates())

    monkeypatch.setattr(queries, "STRATEGIES", {"broken": broken})
    with pytest.raises(ArgumentError, match="strategy='broken' picked"):
        run("broken", [10])
