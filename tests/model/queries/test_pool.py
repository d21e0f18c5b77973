from __future__ import annotations

import numpy as np
import pytest

from model.errors import ArgumentError
from model.queries import Answers, Pool
from model.queries.pool import checked_count

EMBEDDINGS = np.arange(8, dtype=np.float32).reshape(4, 2)
EVEN = np.full((4, 2), 0.5)


def test_candidates_are_neither_labelled_nor_barred():
    pool = Pool(EMBEDDINGS, (), np.array([2, 2]), np.array([True, False, False, False]))
    assert pool.candidates().tolist() == [1, 3]
    assert pool.labelled.tolist() == [2]
    assert len(pool) == 4
    assert [checked_count(pool, count) for count in (0, 1, 2, 9)] == [0, 1, 2, 2]


def test_the_pool_of_one_control():
    pool = Pool.of(EMBEDDINGS, EVEN, [1], multiple=True)
    assert pool.answers[0].multiple
    np.testing.assert_array_equal(pool.answers[0].probabilities, EVEN)
    assert Pool.of(EMBEDDINGS, None).answers == ()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused(dtype: str, value: float):
    # Beyond the first block, too.
    embeddings = np.zeros((20_000, 2), dtype=dtype)
    embeddings[12_345, 1] = value
    with pytest.raises(ArgumentError, match=r"embeddings\[12345, 1\] is .*(nan|inf).*finite"):
        Pool.of(embeddings, None)


def test_embeddings_beyond_float32_are_refused():
    with pytest.raises(ArgumentError, match=r"embeddings\[0, 1\] is 1e\+300; .*finite in float32"):
        Pool.of(np.array([[0.0, 1e300]]), None)


@pytest.mark.parametrize(
    "embeddings", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((2, 2), dtype=np.int64)]
)
def test_embeddings_of_another_form_are_refused(embeddings: np.ndarray):
    with pytest.raises(ArgumentError, match=r"embeddings has shape .*\(n, d\) floats are needed"):
        Pool.of(embeddings, None)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.full((3, 2), 0.5), r"probabilities has 3 rows; 4 are needed\."),
        (np.full((4, 2), np.nan), r"probabilities\[0, 0\] is nan; every value must be finite"),
        (np.full((4, 2), 0.9), r"probabilities\[0\] sums to 1.8; each row must sum to 1"),
        (np.tile([1.5, -0.5], (4, 1)), r"probabilities\[0, 0\] is 1.5; .* lie in \[0, 1\]"),
        (np.zeros(4), r"probabilities has shape \(4,\); \(n, m\) is needed"),
        (np.zeros((4, 0)), r"probabilities has shape \(4, 0\); at least one class is needed"),
    ],
)
def test_probabilities_that_do_not_fit_are_refused(probabilities: np.ndarray, message: str):
    with pytest.raises(ArgumentError, match=message):
        Pool.of(EMBEDDINGS, probabilities)


def test_label_counts_that_do_not_fit_are_refused():
    answers = Answers(EVEN, label_counts=np.array([1, 2, 3]))
    with pytest.raises(ArgumentError, match=r"label_counts has shape \(3,\); \(2,\) is needed"):
        Pool(EMBEDDINGS, (answers,), np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        (np.array([0, 4]), r"labelled holds 0 to 4; 0 to 3 is allowed\."),
        (np.array([-1]), r"labelled holds -1 to -1; 0 to 3 is allowed\."),
        (np.array([[1]]), r"labelled has shape \(1, 1\); \(m,\) is needed\."),
        (np.array([0.5]), r"labelled has dtype float64; whole numbers are needed\."),
    ],
)
def test_labelled_positions_that_do_not_fit_are_refused(labelled: np.ndarray, message: str):
    with pytest.raises(ArgumentError, match=message):
        Pool(EMBEDDINGS, (), labelled)


def test_barred_flags_of_another_length_are_refused():
    with pytest.raises(ArgumentError, match=r"barred has shape \(3, 1\); \(4, 1\) is needed"):
        Pool(EMBEDDINGS, (), np.zeros(0, dtype=np.int64), np.zeros(3, dtype=np.bool_))
