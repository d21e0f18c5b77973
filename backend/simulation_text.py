"""The numbers of a simulation in words, for its table and its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.simulation_summary import REFERENCE

NOTHING = "–"
Part = Mapping[str, Any]


def percent(share: float) -> str:
    """``0.8364`` as ``83.6``."""
    return f"{100 * share:.1f}"


def spread(part: Part, low: str = "low", high: str = "high") -> str:
    """The worst and the best seed of a point of a curve, as ``82.9–84.2``."""
    return f"{percent(part[low])}–{percent(part[high])}"


def gain(part: Part) -> str:
    """The difference to random in points, with its sign."""
    return NOTHING if part["gain"] is None else f"{100 * part['gain']:+.1f}"


def labels_needed(part: Part) -> str:
    """How many labels a strategy needs for the target, and over how many seeds that varies."""
    if part["labels_to_target"] is None:
        return "not reached"
    few = "≤ " if part["at_most"] else ""
    return f"{few}{part['labels_to_target']:,.0f}"


def labels_spread(part: Part) -> str:
    """From the fewest to the most labels over the seeds that reach the target."""
    if not part["reached"]:
        return f"in none of {part['seeds']} seeds"
    several = f"{part['labels_low']:,.0f}–{part['labels_high']:,.0f}"
    missed = part["reached"] < part["seeds"]
    return several + (f" in {part['reached']} of {part['seeds']} seeds" if missed else "")


def times(part: Part) -> str:
    """The saving, as ``2.2 times (1.9–2.5)``."""
    if part["saving"] is None:
        return NOTHING
    several = part["saving_low"] is not None
    seeds = f" ({part['saving_low']:.1f}–{part['saving_high']:.1f})" if several else ""
    return f"{'≥ ' if part['at_most'] else ''}{part['saving']:.1f} times{seeds}"


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What is saved against random: one sentence for each other strategy."""
    parts = {part["strategy"]: part for part in summary["strategies"]}
    reference = parts.pop(REFERENCE, None)
    if summary["target"] is None or reference is None:
        return []
    goal = f"{percent(summary['target'])} %"
    return [_sentence(reference, part, goal) for part in parts.values()]


def _sentence(reference: Part, part: Part, goal: str) -> str:
    name = part["strategy"]
    if part["labels_to_target"] is None:
        return f"{name} does not reach {goal} with {part['curve'][-1]['labels']:,} labels."
    if reference["labels_to_target"] is None:
        last = reference["curve"][-1]["labels"]
        return (
            f"For {goal} {name} needs {labels_needed(part)} labels; {REFERENCE} does not get there "
            f"with {last:,}."
        )
    return (
        f"For {goal} {REFERENCE} needs {labels_needed(reference)} labels, {name} "
        f"{labels_needed(part)}: {times(part)}."
    )
