from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.descent import LOSS_TOLERANCE, minimise

Array = NDArray[np.float64]


class Bowls:
    """f bowls x' A x / 2 - b' x of p variables, which count how often each is looked at."""

    def __init__(self, f: int, p: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        roots = rng.normal(0, 1, (f, p, p)) / np.sqrt(p)
        self.a = roots @ roots.transpose(0, 2, 1) + 0.2 * np.eye(p)
        self.b = rng.normal(0, 1, (f, p))
        self.looks = np.zeros(f, dtype=int)

    def __call__(self, points: Array, which: NDArray[np.int64]) -> tuple[Array, Array]:
        self.looks[which] += 1
        pulled = np.einsum("apq,aq->ap", self.a[which], points)
        values = (points * (pulled / 2 - self.b[which])).sum(axis=1)
        return values, pulled - self.b[which]

    @property
    def lowest(self) -> Array:
        return np.linalg.solve(self.a, self.b[:, :, None])[:, :, 0]


def test_every_bowl_is_gone_down_to_its_ground():
    bowls = Bowls(4, 7, 0)
    found = minimise(bowls, np.zeros((4, 7)), tolerance=1e-9)
    np.testing.assert_allclose(found, bowls.lowest, atol=1e-8)


def test_side_by_side_is_the_same_as_alone():
    bowls = Bowls(3, 5, 1)
    together = minimise(bowls, np.ones((3, 5)), tolerance=1e-6)
    for position in range(3):

        def alone(points: Array, _: NDArray[np.int64], own: int = position):
            return bowls(points, np.array([own]))

        [found] = minimise(alone, np.ones((1, 5)), tolerance=1e-6)
        np.testing.assert_allclose(found, together[position], rtol=0, atol=1e-12)


def test_what_has_arrived_is_looked_at_once():
    bowls = Bowls(3, 6, 2)
    start = np.zeros((3, 6))
    start[1] = bowls.lowest[1]
    found = minimise(bowls, start, tolerance=1e-6)
    assert bowls.looks[1] == 1
    assert (bowls.looks[[0, 2]] > 3).all()
    np.testing.assert_array_equal(found[1], start[1])


def test_steep_walls_are_not_jumped_over():
    # Nearly flat first: a step of the slope's length would leave the numbers that exp can take.
    def cosh(points: Array, _: NDArray[np.int64]) -> tuple[Array, Array]:
        with np.errstate(over="ignore"):
            return np.cosh(points).sum(axis=1), np.sinh(points)

    found = minimise(cosh, np.full((1, 3), 20.0), tolerance=1e-8)
    np.testing.assert_allclose(found, 0, atol=1e-7)


def test_a_coarse_tolerance_ends_sooner():
    fine, coarse = Bowls(1, 40, 3), Bowls(1, 40, 3)
    exact = minimise(fine, np.zeros((1, 40)), tolerance=1e-8)
    rough = minimise(coarse, np.zeros((1, 40)), tolerance=1e-2)
    assert coarse.looks[0] < fine.looks[0]
    [least], _ = fine(exact, np.array([0]))
    [value], _ = fine(rough, np.array([0]))
    assert least <= value <= least + max(100 * LOSS_TOLERANCE * abs(least), 40 * 1e-4 / 0.2)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_precision_stays(kind: type):
    bowls = Bowls(2, 3, 4)
    found = minimise(
        lambda points, which: (bowls(points, which)[0], bowls(points, which)[1].astype(kind)),
        np.zeros((2, 3), dtype=kind),
        tolerance=1e-4,
    )
    assert found.dtype == kind
