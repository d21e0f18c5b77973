"""How often forecasts of labels still needed come true, and when the stop hint comes.

    python -m benchmarks.forecast_replays DATA... [--strategies auto,random] [--seeds 3]
        [--most 2500] [--size 160] [--weights FOLDER] [--cache FOLDER]

Each data set is labelled anew, version by version. At several moments, audit sets are drawn from
images that are in no pool, and the labels for every 2.5 points of accuracy from 5 points below the
true one to 10 above are forecast. The truth is the accuracy on test images along the same replay,
made never to fall; a target that the replay does not reach can contradict a forecast only up to its
last label. Audit sets of a fixed size judge every version; *growing* ones are a tenth of all labels
at the time, and each version keeps the count of its own time.

*middle_80* is the share of targets whose place among the likely curves is in the middle 80%, where
a place within many equal curves (at the target by now, or never there) is drawn among them: 80% if
the width is right.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_embeddings import add_arguments, load_embeddings
from benchmarks.replays import Replay, replay
from benchmarks.report import report, say
from model.forecast import MINIMUM_AUDITED, Forecast, Outlook, forecast, read_curve
from model.learning_curve import AuditPoint, fit_learning_curve
from model.stopping import STEP, Agreement, kappa, stop_hint

MOMENTS = (100, 200, 400, 800, 1300)
TARGETS = np.arange(0.3, 0.99, 0.025)
BELOW, ABOVE = 0.05, 0.10
SHARE = 0.1
DRAWS, STOP_DRAWS, STOP_FROM = 10, 2, 300


@dataclass(frozen=True)
class Outcome:
    """One forecast, the truth, and where the truth lies among the likely curves (0 to 1)."""

    forecast: Forecast
    truth: float
    left: int
    place: float
    moment: int

    @property
    def held(self) -> bool:
        """Whether it came true, as far as the replay can tell."""
        low, high = (inf if end is None else end for end in (self.forecast.low, self.forecast.high))
        if isinf(self.truth):
            return high >= self.left
        return low <= self.truth <= high


@dataclass(frozen=True)
class Hint:
    """The stop hint at one version, and what 100 more labels were truly worth."""

    labels: int
    stop: bool | None
    gain: float


def points(
    found: Replay, upto: int, audited: int | None, order: NDArray[np.int64]
) -> list[AuditPoint]:
    """The versions up to one; ``audited`` None for a set that grows."""
    told = []
    for version in range(upto + 1):
        labels = int(found.labels[version])
        size = audited or max(1, round(labels * SHARE / (1 - SHARE)))
        rows = order[:size]
        right = int((found.audited[version, rows] == found.audit_truth[rows]).sum())
        told.append(AuditPoint(labels, right, size))
    return told


def needed(found: Replay, version: int, target: float) -> float:
    """Labels from one version until the accuracy reaches the target; inf where it never does."""
    accuracy = found.accuracy()
    at = np.flatnonzero(accuracy >= target)
    if not at.size:
        return inf
    last = int(at[0])
    if last <= version:
        return 0.0
    logs = np.log(found.labels[last - 1 : last + 1])
    return float(np.exp(np.interp(target, accuracy[last - 1 : last + 1], logs))) - int(
        found.labels[version]
    )


def outcomes(found: Replay, audited: int | None, seed: int) -> Iterator[Outcome]:
    """Forecasts at every moment, from several draws of the audit set."""
    accuracy, generator = found.accuracy(), np.random.default_rng([seed, 4])
    for draw in range(DRAWS):
        order = generator.permutation(len(found.audit_truth))
        for moment in MOMENTS:
            version = int(np.searchsorted(found.labels, moment))
            if version >= len(found.labels) - 3:
                continue
            now = accuracy[version]
            targets = TARGETS[(now - BELOW < TARGETS) & (now + ABOVE > TARGETS)]
            told = points(found, version, audited, order)
            left = int(found.labels[-1] - found.labels[version])
            truths = [needed(found, version, target) for target in targets]
            if told[-1].audited < MINIMUM_AUDITED:
                for made, truth in zip(forecast(told, targets), truths, strict=True):
                    yield Outcome(made, truth, left, np.nan, moment)
                continue
            curve = fit_learning_curve(told, seed=draw)
            for target, truth in zip(targets, truths, strict=True):
                place = _place(curve.labels_needed(target), truth, left, generator)
                yield Outcome(read_curve(curve, target), truth, left, place, moment)


def _place(needs: Any, truth: float, left: int, generator: np.random.Generator) -> float:
    if isinf(truth):
        low, high = (needs <= left).mean(), 1.0
    else:
        low = (needs < truth).mean()
        high = (needs <= truth).mean() if truth == 0 else low
    return float(generator.uniform(low, high))


def hints(found: Replay, audited: int, seed: int) -> Iterator[Hint]:
    """The stop hint at every version from ``STOP_FROM`` labels on."""
    labels, accuracy = found.labels, found.accuracy()
    classes = int(max(found.truth.max(), found.said.max())) + 1
    agreements = []
    for version in range(len(labels)):
        before = int(np.searchsorted(labels, labels[version] - STEP, side="right")) - 1
        if before >= 0:
            agree = kappa(found.said[before], found.said[version], classes)
            agreements.append(Agreement(int(labels[before]), int(labels[version]), agree))
        else:
            agreements.append(Agreement(int(labels[version]), int(labels[version]), 0))
    generator = np.random.default_rng([seed, 5])
    for _ in range(STOP_DRAWS):
        order = generator.permutation(len(found.audit_truth))
        for version in range(len(labels)):
            if labels[version] < STOP_FROM or labels[version] * 1.5 > labels[-1]:
                continue
            curve = fit_learning_curve(points(found, version, audited, order))
            hint = stop_hint(agreements[: version + 1], curve)
            later = np.interp(labels[version] * 1.5, labels, accuracy)
            worth = (later - accuracy[version]) / (0.5 * labels[version]) * STEP
            yield Hint(int(labels[version]), hint.stop, float(worth))


def summary(found: Sequence[Outcome]) -> dict[str, Any]:
    """How often forecasts held, all and by what they said."""
    told = [o for o in found if o.forecast.outlook is not Outlook.CANNOT_TELL]
    ends = [
        (o.forecast.low, o.forecast.high, o.forecast.labels)
        for o in told
        if o.forecast.outlook is Outlook.RANGE
    ]
    inner = [(low, high, n) for low, high, n in ends if low and high]
    places = np.array([o.place for o in found if not np.isnan(o.place)])
    return {
        "forecasts": len(found),
        "told": _share(len(told), len(found)),
        "held_of_told": _share(sum(o.held for o in told), len(told)),
        "above": _share(sum(not o.held and _above(o) for o in told), len(told)),
        "middle_80": _share(int(((places > 0.1) & (places < 0.9)).sum()), len(places)),
        "labels_in_all_high_over_low": _median([(n + high) / (n + low) for low, high, n in ends]),
        "high_over_low": _median([high / low for low, high, _ in inner]),
        **{
            outlook.value: {
                "share": _share(len(of), len(found)),
                "held": _share(sum(o.held for o in of), len(of)),
            }
            for outlook in Outlook
            for of in [[o for o in told if o.forecast.outlook is outlook]]
            if of
        },
    }


def _above(outcome: Outcome) -> bool:
    high = outcome.forecast.high
    return high is not None and outcome.truth > high


def _share(part: int, of: int) -> float | None:
    return round(part / of, 3) if of else None


def _median(values: Sequence[float], digits: int = 1) -> float | None:
    return round(float(np.median(values)), digits) if values else None


def stop_summary(found: Sequence[Hint]) -> dict[str, Any]:
    """How often the hint was there, and what labels were worth with it and without."""
    with_it, without = ([h.gain for h in found if h.stop is stop] for stop in (True, False))
    return {
        "versions": len(found),
        "hinted": _share(len(with_it), len(found)),
        "cannot_tell": _share(sum(h.stop is None for h in found), len(found)),
        "points_per_100_with_hint": _median([100 * g for g in with_it], 2),
        "points_per_100_with_hint_above_half": _share(
            sum(g > 0.005 for g in with_it), len(with_it)
        ),
        "points_per_100_without": _median([100 * g for g in without], 2),
        "points_per_100_without_below_half": _share(sum(g < 0.005 for g in without), len(without)),
        "first_hint": min((h.labels for h in found if h.stop), default=None),
    }


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add_arguments(arguments)
    arguments.add_argument("--strategies", default="auto,random")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--most", type=int, default=2500, help="labels at the end of a replay")
    arguments.add_argument("--audited", default="100,200,300", help="sizes of fixed audit sets")
    given = arguments.parse_args()
    sizes: list[int | None] = [*map(int, given.audited.split(",")), None]
    all_outcomes: dict[str, list[Outcome]] = {}
    all_hints: dict[str, list[Hint]] = {}
    for path in given.data:
        data = load_embeddings(path, given)
        for strategy in given.strategies.split(","):
            for seed in range(given.seeds):
                found = replay(data, strategy, seed, given.most, given.cache)
                for size in sizes:
                    name = "growing" if size is None else str(size)
                    made = list(outcomes(found, size, seed))
                    all_outcomes.setdefault(name, []).extend(made)
                    all_outcomes.setdefault(f"{name}, {data.name} {strategy}", []).extend(made)
                    for moment in MOMENTS:
                        here = [o for o in made if o.moment == moment]
                        all_outcomes.setdefault(f"{name}, at {moment}", []).extend(here)
                    ahead = [o for o in made if o.truth > 0]
                    all_outcomes.setdefault(f"{name}, not yet reached", []).extend(ahead)
                all_hints.setdefault(f"{data.name} {strategy}", []).extend(hints(found, 200, seed))
                say(f"{found.name} forecast")
    report(
        {
            "forecasts": {key: summary(of) for key, of in all_outcomes.items() if of},
            "stop": {key: stop_summary(of) for key, of in all_hints.items() if of},
        }
    )


if __name__ == "__main__":
    main()
