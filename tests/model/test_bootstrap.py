from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from model.bootstrap import draw_counts, enough_draws, percentile_interval, weighted_auc
from model.errors import ArgumentError


def test_every_draw_is_of_n_rows_and_the_seed_fixes_it():
    counts = draw_counts(7, 50, np.random.default_rng(3))
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert np.array_equal(counts, draw_counts(7, 50, np.random.default_rng(3)))
    assert not np.array_equal(counts, draw_counts(7, 50, np.random.default_rng(4)))


def test_each_row_is_drawn_as_often():
    counts = draw_counts(5, 20_000, np.random.default_rng(0))
    # The number of times that a row is drawn is binomial(5, 1/5): mean 1, variance 4/5.
    assert counts.mean(axis=0) == pytest.approx(np.ones(5), abs=0.03)
    assert counts.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.03)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    rows = np.random.default_rng(1).normal(3, 2, 400)
    means = draw_counts(400, 4000, np.random.default_rng(2)) @ rows / 400
    low, high = percentile_interval(means)
    half = 1.96 * rows.std() / 20
    assert (low, high) == pytest.approx((rows.mean() - half, rows.mean() + half), abs=0.02)


def test_percentiles_by_hand():
    values = np.arange(101.0)
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.r_[values, np.nan], 0.5) == pytest.approx((25.0, 75.0))
    with pytest.raises(ArgumentError, match="none of which is a number"):
        percentile_interval(np.full(3, np.nan))
    with pytest.raises(ArgumentError, match="confidence is"):
        percentile_interval(values, 1.0)


def test_fewer_draws_of_more_cells():
    assert [enough_draws(n) for n in (0, 10, 20_000, 50_000, 10**9)] == [1000, 1000, 1000, 400, 200]


@pytest.mark.parametrize(("n", "draws"), [(0, 5), (5, 0)])
def test_nothing_to_draw(n: int, draws: int):
    with pytest.raises(ArgumentError, match="at least 1"):
        draw_counts(n, draws, np.random.default_rng(0))


def test_area_by_hand():
    # Of 2 * 2 pairs the yes wins 3 and ties 1.
    scores, yes = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    once = np.ones((1, 4), dtype=np.float32)
    assert weighted_auc(scores, yes, once) == pytest.approx([3.5 / 4])
    # Without the last yes only the tie and one win are left; without any yes, nothing.
    counts = np.array([[2, 1, 1, 0], [2, 2, 0, 0]], dtype=np.float32)
    drawn = weighted_auc(scores, yes, counts)
    assert drawn[0] == pytest.approx((2 + 0.5) / 3)
    assert np.isnan(drawn[1])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=2, max_size=25
    )
)
def test_area_equals_that_of_copied_rows(rows: list[tuple[int, bool, int]]):
    scores, yes, times = (np.array(column) for column in zip(*rows, strict=True))
    drawn = weighted_auc(scores / 5, yes, times[None, :].astype(np.float32))[0]
    copied = np.repeat(yes, times)
    if copied.all() or not copied.any():
        assert np.isnan(drawn)
    else:
        assert drawn == pytest.approx(roc_auc_score(copied, np.repeat(scores, times)))
