"""What a version's row says of how good it is, in the form of today or of before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAMPLES = {"held_out": "held out", "cross_validated": "cross-validated"}
"""The samples that a version is measured on, and what a person calls them."""
OUTLOOK = "outlook"
"""Key of what :mod:`backend.outlook` found."""
LONG = ("per_class", "confusion", "classes", "reliability")
LONG_OF_GATE = ("gained_ids", "lost_ids")


def gate_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's decision. Versions of before kept less of it, under another name."""
    return dict(metrics.get("gate") or metrics.get("holdout") or {})


def share_name(multiple: bool) -> str:
    """What the share of right answers is called: with several choices, all must be right."""
    return "exact_match" if multiple else "accuracy"


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a version without the long parts: classes one by one, lists of images."""
    short = {name: value for name, value in metrics.items() if name not in ("measures", "gate")}
    if "gate" in metrics:
        short["gate"] = {k: v for k, v in metrics["gate"].items() if k not in LONG_OF_GATE}
    if "measures" in metrics:
        short["measures"] = {
            control: {
                sample: {k: v for k, v in found.items() if k not in LONG}
                for sample, found in samples.items()
            }
            for control, samples in metrics["measures"].items()
        }
    return short


def half_width(metrics: Mapping[str, Any]) -> float | None:
    """Half of the 95% interval of the accuracy on the held-out labels, of the control that is known
    least; None where one cannot be told yet. Of a multiple control it is the exact match's."""
    widths = [_half_width(samples.get("held_out", {})) for samples in _measures(metrics)]
    return None if not widths or None in widths else max(w for w in widths if w is not None)


def _measures(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((metrics.get("measures") or {}).values())


def _half_width(measured: Mapping[str, Any]) -> float | None:
    accuracy = measured.get("accuracy") or measured.get("exact_match") or {}
    low, high = accuracy.get("low"), accuracy.get("high")
    return None if low is None or high is None else float(high - low) / 2
