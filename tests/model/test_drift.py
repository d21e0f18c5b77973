from __future__ import annotations

import itertools

import numpy as np
import pytest

from model.drift import LEAST_IMAGES, _discrepancies, _kernel, drift
from model.errors import ArgumentError


def test_the_discrepancy_is_that_of_the_definition() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3))
    pairs = list(itertools.combinations(range(7), 2))
    width = np.median([((rows[a] - rows[b]) ** 2).sum() for a, b in pairs])

    def kernel(a: int, b: int) -> float:
        return float(np.exp(-((rows[a] - rows[b]) ** 2).sum() / width))

    def mean(one: list[int], other: list[int]) -> float:
        return float(np.mean([kernel(a, b) for a in one for b in other if a != b]))

    old, new = [0, 2, 5], [1, 3, 4, 6]
    wanted = mean(old, old) + mean(new, new) - 2 * mean(old, new)
    sides = np.isin(np.arange(7), old).astype(float)[None]
    assert _discrepancies(_kernel(rows), sides, 3, 4) == pytest.approx([wanted])


def test_a_shift_is_seen_and_none_is_not() -> None:
    random = np.random.default_rng(1)
    old, alike = random.gamma(1, size=(80, 16)), random.gamma(1, size=(60, 16))
    same = drift(old, alike)
    assert (same.old, same.new, same.differs) == (80, 60, False)
    assert same.p_value is not None
    assert same.p_value > 0.05
    moved = alike.copy()
    moved[:, :4] *= 4
    found = drift(old, moved)
    assert (found.p_value, found.differs) == (0.001, True)
    assert found.distance is not None
    assert same.distance is not None
    assert found.distance > 10 * abs(same.distance)
    assert drift(old, moved) == found


def test_it_cries_wolf_as_rarely_as_it_says() -> None:
    random = np.random.default_rng(2)
    found = [drift(random.gamma(1, size=(30, 8)), random.gamma(1, size=(30, 8))) for _ in range(40)]
    values = [each.p_value for each in found if each.p_value is not None]
    # Of 40 at most 8 may be below 10%: more are seen once in 70 times.
    assert len(values) == 40
    assert sum(value <= 0.1 for value in values) <= 8
    assert 0.3 < float(np.mean(values)) < 0.7


def test_few_images_say_nothing() -> None:
    few = drift(np.ones((LEAST_IMAGES - 1, 4)), np.ones((50, 4)))
    assert (few.distance, few.p_value, few.differs, few.old, few.new) == (None, None, None, 29, 50)
    # All the same picture: nothing is farther apart than anything else.
    assert drift(np.ones((30, 4)), np.ones((30, 4))).p_value == 1


def test_widths_must_be_the_same() -> None:
    with pytest.raises(ArgumentError, match=r"embeddings has shape \(2, 3\)"):
        drift(np.ones((2, 4)), np.ones((2, 3)))
