"""A labelled data set made into a project to replay: its images, and what people answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import class_positions, share
from model.errors import ArgumentError
from model.splits import stratified_subset

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scenario:
    """The images of a project, and the labels that they get when somebody is asked.

    ``pool``     (n,) ascending positions in the data set
    ``answers``  (n,) class positions, what people say of each; some may be wrong
    """

    pool: Positions
    answers: Positions


def draw_scenario(
    targets: ArrayLike,
    *,
    class_count: int,
    seed: int,
    most: int | None = None,
    imbalance: float = 1.0,
    label_noise: float = 0.0,
) -> Scenario:
    """Draw a project from (n,) ``targets``, positions in two or more classes.

    The same arguments draw the same project.

    ``most``         images at most; each class keeps its share of them (to within a row)
    ``imbalance``    r > 1: the class of rank i of k, 0 the commonest, has r^(-i / (k - 1)) times
                     the images of the commonest, rounded down; as many as there are. Classes are
                     ranked by their rows, chance decides between equal ones. 1: as in the data
    ``label_noise``  share of the images, rounded, whose answer is wrong: each of the other classes
                     equally often

    ArgumentError when a number is not allowed, or a class would have no image.
    """
    rows = np.asarray(targets)
    truth = class_positions("targets", rows, length=len(rows), class_count=class_count)
    share("label_noise", label_noise)
    generator = np.random.default_rng([seed, 10])
    if imbalance == 1:
        everything = np.arange(len(truth))
        pool = everything if most is None else stratified_subset(truth, most, generator)
    else:
        counts = _unequal_counts(truth, class_count, imbalance, most, generator)
        pool = _drawn(truth, counts, generator)
    answers = truth[pool]
    wrong = generator.permutation(len(pool))[: round(label_noise * len(pool))]
    # 1 to k - 1 places on from the right class: any other, and never itself.
    answers[wrong] = (answers[wrong] + generator.integers(1, class_count, len(wrong))) % class_count
    return Scenario(pool, answers)


def _unequal_counts(
    truth: Positions,
    class_count: int,
    imbalance: float,
    most: int | None,
    generator: np.random.Generator,
) -> Positions:
    """(k,) how many rows each class keeps."""
    if not 1 <= imbalance < np.inf:
        raise ArgumentError(f"imbalance={imbalance}; 1 or more is allowed.")
    there = np.bincount(truth, minlength=class_count)
    chance = generator.permutation(class_count)
    ranked = chance[np.argsort(-there[chance], kind="stable")]
    shares = np.empty(class_count)
    shares[ranked] = imbalance ** -np.linspace(0, 1, class_count)
    commonest = (there / shares).min()
    if most is not None:
        commonest = min(commonest, most / shares.sum())
    # A whole number that rounding made a hair smaller stays what it is.
    counts: Positions = np.floor(commonest * shares + 1e-9).astype(np.int64)
    if counts.min() < 1:
        raise ArgumentError(
            f"imbalance={imbalance:g} leaves the rarest class without an image: the commonest "
            f"could have {counts.max()}."
        )
    return counts


def _drawn(truth: Positions, counts: Positions, generator: np.random.Generator) -> Positions:
    order = generator.permutation(len(truth))
    parts = [order[truth[order] == position][:count] for position, count in enumerate(counts)]
    return np.sort(np.concatenate(parts))
