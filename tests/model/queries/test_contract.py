"""What every strategy keeps to, whatever it prefers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.head import Head
from model.queries import STRATEGIES, Answers, Pool, pick

N, D, K = 30, 6, 3

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def head_of(generator: np.random.Generator, width: int, k: int, multiple: bool) -> Head:
    temperature = np.ones(k if multiple else 1, dtype=np.float32)
    weights = generator.standard_normal((width, k)).astype(np.float32)
    classes = tuple(f"class {number}" for number in range(k))
    return Head(classes, multiple, 5 * weights, np.zeros(k, dtype=np.float32), temperature)


def pool_of(
    *,
    n: int = N,
    k: int = K,
    multiple: bool = False,
    controls: int = 1,
    labelled: tuple[int, ...] = (0, 3, 4),
    barred: tuple[int, ...] = (1, 5),
    dtype: str = "float32",
    embeddings: np.ndarray | None = None,
) -> Pool:
    generator = np.random.default_rng(n)
    if embeddings is None:
        embeddings = generator.standard_normal((n, D)).astype(dtype)
    answers = []
    for _ in range(controls):
        head = head_of(generator, embeddings.shape[1], k, multiple)
        counts = np.full(k, len(labelled), dtype=np.int64)
        answers.append(Answers(head.probabilities(embeddings), multiple, head, counts))
    flags = np.isin(np.arange(n), barred)
    return Pool(embeddings, tuple(answers), np.array(labelled, dtype=np.int64), flags)


def check(strategy: str, pool: Pool, count: int, seed: int = 0) -> list[int]:
    """The picks, after all that must hold of them does."""
    picks = pick(strategy, pool, count, np.random.default_rng(seed))
    again = pick(strategy, pool, count, np.random.default_rng(seed))
    assert picks.dtype == np.int64
    assert picks.shape == (min(count, len(pool.candidates())),)
    assert np.unique(picks).size == picks.size
    assert np.isin(picks, pool.candidates()).all()
    np.testing.assert_array_equal(picks, again)
    return picks.tolist()


@every_strategy
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_as_many_as_asked_for_are_picked(strategy: str, count: int):
    check(strategy, pool_of(), count)


@every_strategy
@pytest.mark.parametrize("count", [N - 5, N, 1000])
def test_where_too_few_are_left_all_are_picked(strategy: str, count: int):
    pool = pool_of()
    assert sorted(check(strategy, pool, count)) == pool.candidates().tolist()


@every_strategy
def test_a_generator_in_another_state_may_be_passed(strategy: str):
    generator = np.random.default_rng(7)
    first = pick(strategy, pool_of(), 5, generator)
    state = generator.bit_generator.state
    second = pick(strategy, pool_of(), 5, generator)
    generator.bit_generator.state = state
    np.testing.assert_array_equal(pick(strategy, pool_of(), 5, generator), second)
    assert first.size == second.size == 5


@every_strategy
def test_nothing_that_was_passed_in_is_changed(strategy: str):
    pool = pool_of()
    kept = pool.embeddings.copy(), pool.answers[0].probabilities.copy(), pool.labelled.copy()
    for array in (pool.embeddings, pool.answers[0].probabilities, pool.labelled, pool.barred):
        array.flags.writeable = False
    check(strategy, pool, 5)
    now = pool.embeddings, pool.answers[0].probabilities, pool.labelled
    for before, after in zip(kept, now, strict=True):
        np.testing.assert_array_equal(before, after)


@every_strategy
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_float_type_works(strategy: str, dtype: str):
    check(strategy, pool_of(dtype=dtype), 6)


@every_strategy
def test_float16_is_read_as_the_same_numbers_in_float32(strategy: str):
    half = pool_of(dtype="float16")
    single = pool_of(embeddings=half.embeddings.astype(np.float32))
    single = Pool(single.embeddings, half.answers, half.labelled, half.barred)
    assert check(strategy, half, 6) == check(strategy, single, 6)


@every_strategy
@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("controls", [1, 2, 3])
def test_several_controls_and_several_choices_work(strategy: str, controls: int, multiple: bool):
    check(strategy, pool_of(controls=controls, multiple=multiple), 6)


@every_strategy
def test_controls_of_different_kinds_work_together(strategy: str):
    one, other = pool_of(k=2), pool_of(k=5, multiple=True)
    check(strategy, Pool(one.embeddings, one.answers + other.answers, one.labelled), 6)


@every_strategy
@pytest.mark.parametrize("labelled", [(), (2,), (2, 9)])
def test_no_answers_are_needed(strategy: str, labelled: tuple[int, ...]):
    pool = Pool.of(pool_of().embeddings, None, labelled)
    check(strategy, pool, 6)
    assert sorted(check(strategy, pool, N)) == pool.candidates().tolist()


@every_strategy
@pytest.mark.parametrize("multiple", [False, True])
def test_one_class_works(strategy: str, multiple: bool):
    check(strategy, pool_of(k=1, multiple=multiple), 6)


@every_strategy
@pytest.mark.parametrize("multiple", [False, True])
def test_images_that_are_all_alike_work(strategy: str, multiple: bool):
    pool = pool_of(embeddings=np.ones((N, D), dtype=np.float32), multiple=multiple)
    assert sorted(check(strategy, pool, N)) == pool.candidates().tolist()
    check(strategy, Pool.of(np.ones((N, D)), None), 5)


@every_strategy
def test_images_without_any_feature_work(strategy: str):
    check(strategy, pool_of(embeddings=np.zeros((N, D), dtype=np.float32)), 5)
    some = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    some[::3] = 0
    check(strategy, pool_of(embeddings=some), 12)


@every_strategy
@pytest.mark.parametrize("row", [[1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
def test_answers_that_are_all_alike_work(strategy: str, row: list[float]):
    pool = pool_of()
    answers = Answers(np.tile(row, (N, 1)), head=pool.answers[0].head)
    check(strategy, Pool(pool.embeddings, (answers,), pool.labelled), 6)


@every_strategy
def test_a_single_image_is_picked_or_is_not(strategy: str):
    assert check(strategy, pool_of(n=1, labelled=(), barred=()), 3) == [0]
    assert check(strategy, pool_of(n=1, labelled=(0,), barred=()), 3) == []
    assert check(strategy, pool_of(n=1, labelled=(), barred=(0,)), 3) == []


@every_strategy
def test_an_empty_pool_gives_nothing(strategy: str):
    assert check(strategy, pool_of(n=0, labelled=(), barred=()), 3) == []


@every_strategy
def test_a_pool_that_is_all_labelled_gives_nothing(strategy: str):
    assert check(strategy, pool_of(labelled=tuple(range(N))), 3) == []


@every_strategy
def test_half_the_pool_being_twins_works(strategy: str):
    embeddings = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    embeddings[1::2] = embeddings[::2]
    check(strategy, pool_of(embeddings=embeddings), 20)


@every_strategy
def test_a_negative_count_is_refused(strategy: str):
    with pytest.raises(ArgumentError, match=r"count=-1; 0 or more is allowed\."):
        pick(strategy, pool_of(), -1, np.random.default_rng(0))


def test_a_strategy_that_is_not_there_is_refused():
    with pytest.raises(ArgumentError, match=r"strategy='best'; one of auto, .* is allowed"):
        pick("best", pool_of(), 1, np.random.default_rng(0))


@every_strategy
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_pool_works(strategy: str, data: st.DataObject):
    n = data.draw(st.integers(1, 12), label="n")
    positions = st.lists(st.integers(0, n - 1), max_size=n)
    labelled = data.draw(positions, label="labelled")
    barred = data.draw(positions, label="barred")
    # Few different values, so that there are many equals and twins.
    values = st.sampled_from([0.0, 1.0, -2.0, 0.5, 60000.0, 1e-7])
    rows = st.lists(st.lists(values, min_size=2, max_size=2), min_size=n, max_size=n)
    embeddings = np.array(data.draw(rows, label="embeddings"), dtype=np.float32)
    pool = pool_of(
        n=n,
        embeddings=embeddings,
        k=data.draw(st.integers(1, 3), label="k"),
        multiple=data.draw(st.booleans(), label="multiple"),
        controls=data.draw(st.integers(0, 2), label="controls"),
        labelled=tuple(labelled),
        barred=tuple(barred),
    )
    check(strategy, pool, data.draw(st.integers(0, n + 2), label="count"))
