"""A simulation as one page with a table and plots, which needs no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.experiment_page import render_page
from backend.simulate_figures import simulation_plots
from backend.simulation_summary import REFERENCE
from backend.simulation_text import (
    gain,
    labels_needed,
    labels_spread,
    percent,
    sentences,
    spread,
    times,
)


@dataclass(frozen=True)
class PageText:
    """What the page says of the whole."""

    title: str
    subtitle: str
    machine: str


def simulation_page(text: PageText, summary: Mapping[str, Any]) -> str:
    """The page of a summary, as HTML."""
    parts = summary["strategies"]
    return render_page(
        "simulate.html",
        simulation_plots(summary) if parts else [],
        title=text.title,
        subtitle=text.subtitle,
        machine=text.machine,
        said=sentences(summary),
        several=any(part["seeds"] > 1 for part in parts),
        headings=[part["strategy"] for part in parts],
        lines=[
            _line(parts, place, point["labels"])
            for place, point in enumerate(parts[0]["curve"] if parts else ())
        ],
        goal=None if summary["target"] is None else percent(summary["target"]),
        needed=[(labels_needed(part), labels_spread(part)) for part in parts],
        saved=[times(part) for part in parts],
    )


def _line(parts: list[dict[str, Any]], place: int, labels: int) -> dict[str, Any]:
    cells = []
    for part in parts:
        point = part["curve"][place]
        compared = part["strategy"] != REFERENCE and point["gain"] is not None
        more = f", {gain(point)}" if compared else ""
        cells.append((percent(point["accuracy"]), f"{spread(point)}{more}"))
    return {"labels": f"{labels:,}", "cells": cells}
