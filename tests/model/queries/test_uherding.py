from __future__ import annotations

import numpy as np
import pytest

from model.head import power_normalise
from model.queries import Answers, Pool, pick
from model.queries.radius import cover_radius
from model.queries.scores import pool_uncertainty
from model.queries.uherding import Herd


def kernel_of(pool: Pool, radius: float) -> np.ndarray:
    rows = power_normalise(pool.embeddings).astype(np.float64)
    squares = (rows**2).sum(axis=1)
    squared = squares[:, None] + squares - 2 * rows @ rows.T
    return np.exp(-np.maximum(squared, 0) / radius**2)


def gains(kernel: np.ndarray, weights: np.ndarray, known: list[int]) -> np.ndarray:
    """(n,) what each image beside ``known`` would add to the objective, by its definition."""
    covered = kernel[:, known].max(axis=1, initial=0)
    before = float(weights @ covered)
    return np.array([weights @ np.maximum(row, covered) for row in kernel]) - before


def pool_of(seed: int, n: int = 40, m: int = 5, kind: str = "single") -> Pool:
    generator = np.random.default_rng(seed)
    embeddings = generator.standard_normal((n, 6))
    single = Answers(generator.dirichlet(np.ones(3), size=n))
    questions = Answers(generator.random((n, 2)), True)
    answers = {"none": (), "single": (single,), "multiple": (questions,)}
    chosen = answers.get(kind, (single, questions))
    return Pool(embeddings, chosen, generator.permutation(n)[:m], generator.random(n) < 0.2)


@pytest.mark.parametrize("kind", ["none", "single", "multiple", "both"])
@pytest.mark.parametrize("m", [0, 1, 2, 8])
@pytest.mark.parametrize("seed", range(3))
def test_each_pick_adds_the_most(seed: int, m: int, kind: str):
    pool = pool_of(seed, m=m, kind=kind)
    weights = pool_uncertainty(pool, "margin") if kind != "none" else np.ones(40)
    kernel = kernel_of(pool, cover_radius(pool, np.random.default_rng(0)))
    picks = pick("uherding", pool, 10, np.random.default_rng(seed)).tolist()
    for done, chosen in enumerate(picks):
        found = gains(kernel, weights, [*pool.labelled.tolist(), *picks[:done]])
        free = np.setdiff1d(pool.candidates(), picks[:done])
        assert found[chosen] == pytest.approx(found[free].max(), rel=1e-4, abs=1e-5)


def test_coverage_by_hand():
    # Three, two and one equal images at right angles, nothing known: σ² is 0.49 · 2, so k across
    # is exp(-2 / 0.98) = 0.13. One of the three adds 3 + 3 · 0.13, of the two 2 + 4 · 0.13, the
    # lone one 1 + 5 · 0.13; then 2 · 0.87 and 0.87 are left, and then nothing.
    pool = Pool.of(np.eye(3)[[0, 0, 0, 1, 1, 2]], None)
    for seed in range(5):
        picks = pick("uherding", pool, 6, np.random.default_rng(seed)).tolist()
        assert picks[0] in {0, 1, 2}
        assert picks[1] in {3, 4}
        assert picks[2] == 5


def test_uncertainty_moves_the_pick_by_hand():
    # All are 90° apart, so that each stands as much for the others, and U alone decides: 1 minus
    # 0.2, 0.6, 0 and 0.9.
    embeddings = np.eye(4)
    answers = [[0.6, 0.4], [0.8, 0.2], [0.5, 0.5], [0.95, 0.05]]
    picks = pick("uherding", Pool.of(embeddings, answers), 4, np.random.default_rng(0))
    assert picks.tolist() == [2, 0, 1, 3]


def test_an_image_beside_a_label_comes_last_however_unsure():
    embeddings = np.concatenate([np.eye(4), np.eye(4)[:1]])
    answers = [[0.9, 0.1]] * 4 + [[0.5, 0.5]]
    picks = pick("uherding", Pool.of(embeddings, answers, [0]), 4, np.random.default_rng(0))
    assert picks[-1] == 4


def test_answers_that_are_certain_of_all_without_a_label_leave_coverage():
    embeddings = np.random.default_rng(0).standard_normal((20, 4))
    certain = np.tile([1.0, 0.0], (20, 1))
    certain[3] = 0.5
    known, alone = Pool.of(embeddings, certain, [3]), Pool.of(embeddings, None, [3])
    picks = [pick("uherding", pool, 5, np.random.default_rng(0)) for pool in (known, alone)]
    np.testing.assert_array_equal(picks[0], picks[1])


@pytest.mark.parametrize("kind", ["none", "single"])
def test_by_landmarks_the_picks_add_nearly_as_much(kind: str):
    pool = pool_of(1, n=5000, m=20, kind=kind)
    weights = pool_uncertainty(pool, "margin") if kind != "none" else np.ones(5000)
    kernel = kernel_of(pool, cover_radius(pool, np.random.default_rng(0)))
    known = pool.labelled.tolist()

    def reached(picks: list[int]) -> float:
        return float(weights @ kernel[:, [*known, *picks]].max(axis=1))

    exact: list[int] = []
    covered = kernel[:, known].max(axis=1)
    for _ in range(10):
        added = np.array([weights @ np.maximum(row - covered, 0) for row in kernel])
        added[np.setdiff1d(np.arange(5000), pool.candidates())] = -1
        exact.append(int(added.argmax()))
        covered = np.maximum(covered, kernel[exact[-1]])
    best = reached(exact) - reached([])
    for seed in range(3):
        picks = pick("uherding", pool, 10, np.random.default_rng(seed)).tolist()
        assert reached(picks) - reached([]) > 0.95 * best


def test_by_landmarks_lone_images_come_by_their_uncertainty():
    # Beside two labelled twins, whose distance of 0 makes the radius small, 4,000 images that are
    # all about as far from each other: each covers hardly more than itself, and by landmarks, too,
    # the least certain come first.
    generator = np.random.default_rng(0)
    embeddings = generator.choice([-1.0, 1.0], size=(4002, 256))
    embeddings[1] = embeddings[0]
    sure = 0.5 + 0.5 * generator.permutation(4002) / 4002
    pool = Pool.of(embeddings, np.stack([sure, 1 - sure], axis=1), [0, 1])
    picks = pick("uherding", pool, 15, generator)
    least = pool.candidates()[np.argsort(sure[pool.candidates()])[:15]]
    assert picks.tolist() == least.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_picks_made_by_somebody_else_are_covered(seed: int):
    pool = pool_of(seed, m=8)
    weights = pool_uncertainty(pool, "margin")
    kernel = kernel_of(pool, cover_radius(pool, np.random.default_rng(0)))
    herd = Herd(pool, 10, np.random.default_rng(seed))
    first = herd.pick(3)
    theirs = np.setdiff1d(pool.candidates(), first)[:2]
    herd.take(theirs)
    known = [*pool.labelled.tolist(), *first.tolist(), *theirs.tolist()]
    for chosen in herd.pick(5).tolist():
        found = gains(kernel, weights, known)
        free = np.setdiff1d(pool.candidates(), known)
        assert chosen in free
        assert found[chosen] == pytest.approx(found[free].max(), rel=1e-4, abs=1e-5)
        known.append(chosen)


def test_any_number_of_cores_comes_to_the_same_picks(monkeypatch: pytest.MonkeyPatch):
    pool = pool_of(1, n=1500, m=30)
    picks = []
    for cores in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        picks.append(pick("uherding", pool, 40, np.random.default_rng(0)).tolist())
    assert picks[0] == picks[1]
