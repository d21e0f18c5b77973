"""Forecasts made at one number of labels for another: how often they held, and how wide they were.

    python -m benchmarks.forecast_ahead DATA... [--strategy auto] [--seeds 15] [--now 300]
        [--then 1000] [--audited 100,200,300] [--size 160] [--weights FOLDER] [--cache FOLDER]

Each data set is labelled anew for each seed, version by version. At ``now`` labels ten audit sets
of each size are drawn from images that are in no pool, and two things are forecast and compared
with the replay's own accuracy on test images (made never to fall):

- ``accuracy``: the middle 80% of the likely curves at ``then`` labels, and its width in points;
- ``labels``: how many more labels it takes to the accuracy that the replay has at ``then``, by the
  sentence that the product says; ``total_high_over_low`` is the upper end of its range over the
  lower, in labels of now and later together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.forecast_replays import DRAWS, Outcome, needed, points, summary
from benchmarks.labelled_embeddings import add_arguments, load_embeddings
from benchmarks.replays import Replay, replay
from benchmarks.report import report, say
from model.forecast import read_curve
from model.learning_curve import fit_learning_curve

BEYOND = 1.1
"""A replay goes on to this much more than ``then``."""


@dataclass(frozen=True)
class Ahead:
    """One forecast of the accuracy, and the truth."""

    low: float
    high: float
    middle: float
    truth: float

    @property
    def held(self) -> bool:
        """Whether the truth is in the range."""
        return self.low <= self.truth <= self.high


def forecasts(
    found: Replay, now: int, then: int, audited: int, seed: int
) -> list[tuple[Ahead, Outcome]]:
    """From several draws of the audit set."""
    accuracy, generator = found.accuracy(), np.random.default_rng([seed, 6])
    version = int(np.searchsorted(found.labels, now))
    more = then - int(found.labels[version])
    truth = float(np.interp(np.log(then), np.log(found.labels), accuracy))
    left = int(found.labels[-1] - found.labels[version])
    made = []
    for draw in range(DRAWS):
        order = generator.permutation(len(found.audit_truth))
        curve = fit_learning_curve(points(found, version, audited, order), seed=draw)
        low, middle, high = np.quantile(curve.accuracy(more), (0.1, 0.5, 0.9)).tolist()
        told = read_curve(curve, truth)
        outcome = Outcome(told, needed(found, version, truth), left, np.nan, now)
        made.append((Ahead(low, high, middle, truth), outcome))
    return made


def accuracy_summary(made: Sequence[Ahead]) -> dict[str, Any]:
    """How often the range held, and how wide it was."""
    off = np.array([each.middle - each.truth for each in made])
    return {
        "forecasts": len(made),
        "held": round(float(np.mean([each.held for each in made])), 3),
        "points_wide": round(float(np.median([100 * (e.high - e.low) for e in made])), 1),
        "points_off": round(float(np.abs(100 * off).mean()), 1),
        "points_too_hopeful": round(float(100 * off.mean()), 1),
    }


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add_arguments(arguments)
    arguments.add_argument("--strategy", default="auto")
    arguments.add_argument("--seeds", type=int, default=15)
    arguments.add_argument("--now", type=int, default=300)
    arguments.add_argument("--then", type=int, default=1000)
    arguments.add_argument("--audited", default="100,200,300", help="sizes of audit sets")
    given = arguments.parse_args()
    found: dict[str, list[tuple[Ahead, Outcome]]] = {}
    for path in given.data:
        data = load_embeddings(path, given)
        for seed in range(given.seeds):
            most = round(BEYOND * given.then)
            labelled = replay(data, given.strategy, seed, most, given.cache)
            for size in map(int, given.audited.split(",")):
                made = forecasts(labelled, given.now, given.then, size, seed)
                for key in (str(size), f"{size}, {data.name}"):
                    found.setdefault(key, []).extend(made)
            say(f"{labelled.name} forecast")
    report(
        {
            "now": given.now,
            "then": given.then,
            "replays": given.seeds * len(given.data),
            **{
                key: {
                    "accuracy": accuracy_summary([ahead for ahead, _ in made]),
                    "labels": summary([outcome for _, outcome in made]),
                }
                for key, made in found.items()
            },
        }
    )


if __name__ == "__main__":
    main()
