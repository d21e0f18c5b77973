"""Projects drawn from labelled data have the sizes, the mix and the errors that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.scenario import Scenario, draw_scenario

EVEN = np.repeat(np.arange(4), 1000)


def draw(targets: Any = EVEN, class_count: int = 4, seed: int = 0, **more: Any) -> Scenario:
    return draw_scenario(targets, class_count=class_count, seed=seed, **more)


def test_nothing_asked_for_is_everything() -> None:
    found = draw()
    assert found.pool.tolist() == list(range(4000))
    assert found.answers.tolist() == EVEN.tolist()


def test_imbalance_by_hand() -> None:
    found = draw(imbalance=1000)
    counts = np.bincount(EVEN[found.pool], minlength=4)
    assert sorted(counts.tolist()) == [1, 10, 100, 1000]
    assert (np.diff(found.pool) > 0).all()
    # 8 + 4 + 2 + 1 shares of at most 60 images.
    small = draw(imbalance=8, most=60)
    assert sorted(np.bincount(small.answers).tolist()) == [4, 8, 16, 32]


def test_chance_ranks_equal_classes_and_size_the_others() -> None:
    commonest = {int(np.bincount(draw(imbalance=10, seed=s).answers).argmax()) for s in range(30)}
    assert commonest == {0, 1, 2, 3}
    uneven = np.repeat([0, 1, 2], [30, 300, 100])
    for seed in range(5):
        # 30 is a ninth of 270, and there are more than that of the others.
        counts = np.bincount(draw(uneven, 3, seed, imbalance=9).answers)
        assert counts.tolist() == [30, 270, 90]


def test_the_share_of_wrong_answers_is_exact_and_spread_over_the_other_classes() -> None:
    found = draw(label_noise=0.3)
    wrong = found.answers != EVEN[found.pool]
    assert wrong.sum() == 1200
    places = np.bincount((found.answers - EVEN[found.pool])[wrong] % 4, minlength=4)
    assert places[0] == 0
    assert places[1:].min() > 340
    assert (draw(label_noise=1).answers != EVEN).all()


@given(
    targets=st.lists(st.integers(0, 3), min_size=1, max_size=80),
    most=st.integers(1, 100),
    noise=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_pool_is_a_part_of_the_data(
    targets: list[int], most: int, noise: float, seed: int
) -> None:
    found = draw(targets, 4, seed, most=most, label_noise=noise)
    truth = np.array(targets)[found.pool]
    assert len(found.pool) == min(most, len(targets))
    assert (np.diff(found.pool) > 0).all()
    assert (found.answers != truth).sum() == round(noise * len(found.pool))
    again = draw(targets, 4, seed, most=most, label_noise=noise)
    assert again.pool.tolist() == found.pool.tolist()
    assert again.answers.tolist() == found.answers.tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"imbalance": 0.5}, "imbalance=0.5; 1 or more"),
        ({"imbalance": float("nan")}, "imbalance=nan"),
        ({"imbalance": 5000}, "imbalance=5000 leaves the rarest class without an image"),
        ({"imbalance": 8, "most": 14}, "imbalance=8 leaves the rarest class without an image"),
        ({"label_noise": 1.5}, "label_noise is 1.5"),
        ({"most": 0}, "size=0; 1 or more"),
        ({"class_count": 3}, r"targets\[3000\] is 3"),
    ],
)
def test_what_cannot_be_drawn_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        draw(**change)
