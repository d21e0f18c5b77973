"""What a team lead reads of a project: how accurate it is, what is still needed, whether choosing
pays. Each sentence says so where it cannot be told yet, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.label_config import Control
from backend.measures_text import number_text
from backend.tables import Project, Version
from backend.version_metrics import OUTLOOK, share_name

STAGES = ("first", "last")


def outlook_json(
    project: Project, controls: Sequence[Control], serving: Version | None, newest: Version | None
) -> dict[str, Any]:
    """How the version that serves does, what was found of the newest one, and all in sentences."""
    measured = (serving.metrics.get("measures") or {}) if serving else {}
    # A control that has become one of several choices, or of one, was not measured as it is now.
    accuracy = [
        {"control": control.name, **number}
        for control in controls
        if (number := _held_out(measured, control).get(share_name(control.multiple)))
    ]
    for control, number in zip(_named(controls, accuracy), accuracy, strict=True):
        number["sentence"] = accuracy_sentence(number, control.multiple)
    ahead = (newest.metrics.get(OUTLOOK) or {}) if newest else {}
    found = {
        "accuracy": accuracy,
        "forecasts": ahead.get("forecasts") or {},
        "stop": ahead.get("stop"),
        "choosing": {"choose": project.choosing, **_without_history(project.payoff)},
    }
    return found | {"sentences": _sentences(found, several=len(controls) > 1)}


def accuracy_sentence(number: Mapping[str, Any], multiple: bool) -> str:
    """``Accuracy 87.2% (83.9% to 90.1%) on 412 audit labels.``"""
    if number["value"] is None:
        lacking = str(number["reason"]).partition(": ")[2].replace("labels", "audit labels", 1)
        return f"Cannot tell the accuracy yet: there are {lacking}."
    what = "All choices of an image right" if multiple else "Accuracy"
    return f"{what} {number_text('accuracy', number)} on {number['n']:,} audit labels."


def _held_out(measured: Mapping[str, Any], control: Control) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (measured.get(control.name) or {}).get("held_out") or {}
    return found


def _named(controls: Sequence[Control], numbers: Sequence[Mapping[str, Any]]) -> list[Control]:
    by_name = {control.name: control for control in controls}
    return [by_name[number["control"]] for number in numbers]


def _without_history(payoff: Mapping[str, Any]) -> dict[str, Any]:
    controls = payoff.get("controls") or {}
    return {
        "sentence": payoff.get("sentence", ""),
        "comparisons": {name: one["shown"] for name, one in controls.items()},
    }


def _sentences(found: Mapping[str, Any], *, several: bool) -> list[str]:
    if not found["accuracy"]:
        return ["Cannot tell the accuracy yet: no version has been measured."]
    lines = []
    for number in found["accuracy"]:
        name = number["control"]
        lines.append(_of(name, number["sentence"], several))
        if name in found["forecasts"]:
            lines.append(_of(name, found["forecasts"][name]["sentence"], several))
    if found["stop"]:
        lines.append(found["stop"]["sentence"])
    choosing = found["choosing"]
    if not choosing["choose"]:
        return [*lines, choosing["sentence"]]
    for name, shown in choosing["comparisons"].items():
        lines += [_of(name, shown[stage]["sentence"], several) for stage in _worth_saying(shown)]
    return lines


def _worth_saying(shown: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those stages that tell something; the first, where none does."""
    told = [stage for stage in STAGES if stage in shown]
    return [stage for stage in told if shown[stage]["difference"] is not None] or told[:1]


def _of(control: str, sentence: str, several: bool) -> str:
    return f"{control}: {sentence}" if several else sentence
