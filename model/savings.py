"""How many labels a strategy needs for an accuracy, read off learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from model.errors import ArgumentError
from model.simulate import Point


@dataclass(frozen=True)
class Reached:
    """Where a curve reaches a target.

    ``labels``   how many labels that takes
    ``at_most``  the first point is there already, so fewer may do
    """

    labels: float
    at_most: bool


def labels_to_reach(curve: Sequence[Point], target: float) -> Reached | None:
    """Where a curve, by ascending labels, has an accuracy of ``target`` first; None for nowhere.

    Between two points the accuracy is taken to grow along a straight line. Learning curves bend
    downwards, so what is read off is rather a few labels too many than too few.
    """
    if curve and curve[0].accuracy >= target:
        return Reached(float(curve[0].labels), at_most=True)
    for before, after in pairwise(curve):
        if after.accuracy >= target:
            part = (target - before.accuracy) / (after.accuracy - before.accuracy)
            return Reached(before.labels + part * (after.labels - before.labels), at_most=False)
    return None


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean accuracy of one curve or more at each number of labels, the same ones in all.

    ArgumentError when they are not the same.
    """
    budgets = {tuple(point.labels for point in curve) for curve in curves}
    if len(budgets) != 1:
        raise ArgumentError(f"curves have points at {sorted(budgets)}; the same are needed.")
    return [
        Point(points[0].labels, sum(point.accuracy for point in points) / len(points))
        for points in zip(*curves, strict=True)
    ]
