"""What a simulation shows: mean curves, labels to a target, and what is saved against random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.savings import Reached, labels_to_reach, mean_curve
from model.simulate import Point

REFERENCE = "random"
Run = dict[str, Any]
Goals = dict[int, float | None]


def summarise(
    runs: Sequence[Run], strategies: Sequence[str], target: float | None = None
) -> dict[str, Any]:
    """The summary of ``runs``, each with ``strategy``, ``seed`` and ``curve``.

    ``target``      the accuracy that is looked for. By default the one that random has at its last
                    budget: its mean for the mean curves, and in each seed its own there
    ``target_from`` "--target", or "random at 2000 labels"; None where there is no target

    and for each of ``strategies`` that has runs ``strategy``, ``seeds`` (how many), and

    ``curve``             at each budget ``labels``, ``accuracy`` (the mean over the seeds), ``low``
                          and ``high`` (the worst and the best seed); and over the seeds that random
                          has too ``gain``, the mean difference to it, with ``gain_low`` and
                          ``gain_high``. None without random
    ``labels_to_target``  read off the mean curve, None where it does not get there; ``at_most`` is
                          true where its first budget is enough. ``labels_low`` and ``labels_high``
                          over the seeds that get there, ``reached`` of them
    ``saving``            the labels that random needs, divided by these, with ``saving_low`` and
                          ``saving_high`` over the seeds; None where one of both does not get there
    """
    by_name = {name: _curves(runs, name) for name in strategies}
    reference = by_name.get(REFERENCE) or _curves(runs, REFERENCE)
    goals: Goals = dict.fromkeys((int(run["seed"]) for run in runs), target)
    source, goal = "--target" if target is not None else None, target
    if target is None and reference:
        last = mean_curve(list(reference.values()))[-1]
        source, goal = f"{REFERENCE} at {last.labels} labels", last.accuracy
        goals = {seed: curve[-1].accuracy for seed, curve in reference.items()}
    return {
        "target": goal,
        "target_from": source,
        "strategies": [
            {
                "strategy": name,
                "seeds": len(curves),
                "curve": _mean_and_gain(curves, reference),
                **_labels(curves, reference, goal, goals),
            }
            for name, curves in by_name.items()
            if curves
        ],
    }


def _curves(runs: Sequence[Run], strategy: str) -> dict[int, list[Point]]:
    """The curve of each seed."""
    return {
        int(run["seed"]): [Point(int(p["labels"]), float(p["accuracy"])) for p in run["curve"]]
        for run in runs
        if run["strategy"] == strategy
    }


def _mean_and_gain(
    curves: dict[int, list[Point]], reference: dict[int, list[Point]]
) -> list[dict[str, Any]]:
    found = []
    for place, mean in enumerate(mean_curve(list(curves.values()))):
        values = [curve[place].accuracy for curve in curves.values()]
        gains = [
            curve[place].accuracy - reference[seed][place].accuracy
            for seed, curve in curves.items()
            if seed in reference
        ]
        found.append(
            {
                "labels": mean.labels,
                "accuracy": mean.accuracy,
                "low": min(values),
                "high": max(values),
                "gain": sum(gains) / len(gains) if gains else None,
                "gain_low": min(gains, default=None),
                "gain_high": max(gains, default=None),
            }
        )
    return found


def _labels(
    curves: dict[int, list[Point]],
    reference: dict[int, list[Point]],
    goal: float | None,
    goals: Goals,
) -> dict[str, Any]:
    own = _reach(mean_curve(list(curves.values())), goal)
    needed = _reach(mean_curve(list(reference.values())), goal) if reference else None
    by_seed = {seed: _reach(curve, goals.get(seed)) for seed, curve in curves.items()}
    reached = {seed: found for seed, found in by_seed.items() if found is not None}
    savings = [
        saved
        for seed, found in reached.items()
        if (saved := _saving(_reach(reference.get(seed, []), goals.get(seed)), found)) is not None
    ]
    return {
        "labels_to_target": own.labels if own else None,
        "at_most": own.at_most if own else False,
        "labels_low": min((found.labels for found in reached.values()), default=None),
        "labels_high": max((found.labels for found in reached.values()), default=None),
        "reached": len(reached),
        "saving": _saving(needed, own),
        "saving_low": min(savings, default=None),
        "saving_high": max(savings, default=None),
    }


def _reach(curve: Sequence[Point], target: float | None) -> Reached | None:
    return None if target is None else labels_to_reach(curve, target)


def _saving(needed: Reached | None, own: Reached | None) -> float | None:
    return needed.labels / own.labels if needed and own else None
