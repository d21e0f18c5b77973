from __future__ import annotations

import numpy as np
import pytest

from model.head import power_normalise
from model.queries import Answers, Pool, pick
from model.queries.badge import residuals
from model.queries.seeding import spread


def gradients(pool: Pool) -> np.ndarray:
    """(n, d · k) of all controls side by side, entry by entry."""
    rows = power_normalise(pool.embeddings).astype(np.float64)
    columns = []
    for answers in pool.answers:
        for c in range(answers.probabilities.shape[1]):
            p = answers.probabilities
            said = p[:, c] >= 0.5 if answers.multiple else p.argmax(axis=1) == c
            columns += [(p[:, c] - said) * rows[:, d] for d in range(rows.shape[1])]
    return np.stack(columns, axis=1)


def pool_of(seed: int, *, controls: tuple[bool, ...]) -> Pool:
    generator = np.random.default_rng(seed)
    embeddings = generator.standard_normal((40, 5))
    answers = [
        Answers(generator.random((40, 4)), True)
        if multiple
        else Answers(generator.dirichlet(np.ones(3), size=40))
        for multiple in controls
    ]
    return Pool(embeddings, tuple(answers), generator.permutation(40)[:6])


def test_residuals_by_hand():
    single = Answers(np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]))
    questions = Answers(np.array([[0.5, 0.1], [0.4, 1.0]]), True)
    pool = Pool(np.eye(2), (single, questions), np.zeros(0, dtype=np.int64))
    expected = [[-0.3, 0.2, 0.1, -0.5, 0.1], [0.3, 0.3, -0.6, 0.4, 0.0]]
    np.testing.assert_allclose(residuals(pool, np.arange(2)), expected, atol=1e-7)


@pytest.mark.parametrize("controls", [(False,), (True,), (False, True, False)])
@pytest.mark.parametrize("seed", range(4))
def test_it_draws_as_on_explicit_gradients(seed: int, controls: tuple[bool, ...]):
    pool = pool_of(seed, controls=controls)
    explicit = gradients(pool)[pool.candidates()]
    # A pool whose rows are the gradients' directions and whose factors are their lengths draws
    # from the explicit (d · k) vectors.
    lengths = np.linalg.norm(explicit, axis=1)
    squares = np.sign(explicit) * (explicit / lengths[:, None]) ** 2
    written_out = Pool.of(squares, None)
    expected = spread(
        written_out,
        np.arange(len(explicit)),
        lambda at: lengths[at, None].astype(np.float32),
        12,
        np.random.default_rng(seed),
    )
    picks = pick("badge", pool, 12, np.random.default_rng(seed))
    assert picks.tolist() == pool.candidates()[expected].tolist()


def test_the_first_is_drawn_by_the_squared_length_of_the_gradient():
    # Residuals (-0.5, 0.5), (-0.1, 0.1) and 0: squared lengths 0.5, 0.02 and 0.
    pool = Pool.of(np.eye(3), [[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    firsts = [int(pick("badge", pool, 1, np.random.default_rng(seed))[0]) for seed in range(1000)]
    seen = np.bincount(firsts, minlength=3)
    assert seen[2] == 0
    # 1,000 · 0.02 / 0.52 = 38, with a standard deviation of 6.
    assert 14 < seen[1] < 62


def test_a_twin_with_the_same_answers_is_not_drawn_beside_its_twin():
    embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    pool = Pool.of(embeddings, [[0.6, 0.4], [0.6, 0.4], [0.7, 0.3]])
    for seed in range(50):
        assert set(pick("badge", pool, 2, np.random.default_rng(seed))) != {0, 1}
