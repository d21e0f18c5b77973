"""A comparison as one page with a table and plots, which needs no network and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.compare_figures import FIGURES
from backend.compare_table import NOTHING, millions, number, percent, seconds
from backend.experiment_page import Plot, render_page

HEADINGS = (
    "backbone",
    "mode",
    "accuracy %",
    "macro F1",
    "ROC AUC",
    "log loss",
    "ECE",
    "parameters",
    "s per epoch",
    "memory",
)


@dataclass(frozen=True)
class PageText:
    """What the page says of the whole."""

    title: str
    subtitle: str
    machine: str


def comparison_page(text: PageText, rows: Sequence[dict[str, Any]]) -> str:
    """The page of ``rows`` as HTML, best first."""
    ordered = sorted(rows, key=_place)
    good = [row for row in ordered if not row["error"]]
    shown = FIGURES if good else ()
    return render_page(
        "compare.html",
        [Plot(key, title, said, draw(good)) for key, title, said, draw in shown],
        title=text.title,
        subtitle=text.subtitle,
        machine=text.machine,
        best=_best(good),
        headings=HEADINGS,
        lines=[_line(row) for row in ordered],
    )


def _place(row: dict[str, Any]) -> tuple[bool, float]:
    value = None if row["error"] else row["metrics"]["accuracy"]["value"]
    return bool(row["error"]), -1.0 if value is None else -value


def _best(good: Sequence[dict[str, Any]]) -> str:
    if not good or good[0]["metrics"]["accuracy"]["value"] is None:
        return ""
    first, accuracy = good[0], good[0]["metrics"]["accuracy"]
    how = "trained from scratch" if first["mode"] == "scratch" else f"with {first['mode']}"
    return (
        f"{first['backbone']} {how} is right about {percent(accuracy)} % "
        f"of {accuracy['n']:,} test images, after {first['labels']:,} labels."
    )


def _line(row: dict[str, Any]) -> dict[str, Any]:
    line = {"backbone": row["backbone"], "mode": row["mode"], "size": f"{row['input_size']} px"}
    if row["error"]:
        return line | {"failed": f"{row['error']} {row['mend']}".strip(), "how": ""}
    metrics = row["metrics"]
    accuracy, _, interval = percent(metrics["accuracy"]).partition(" ")
    peak = row["peak_bytes"]
    return line | {
        "how": _how(row),
        "cells": [
            (accuracy, interval.strip("()")),
            *(_cell(metrics[name]) for name in ("macro_f1", "roc_auc", "log_loss", "ece")),
            (millions(row["parameters"]), f"{millions(row['trainable'])} trained"),
            (seconds(row["seconds_per_epoch"]), f"{seconds(row['seconds'])} in all"),
            (NOTHING if peak is None else f"{peak / 1e9:.1f} GB", ""),
        ],
    }


def _how(row: dict[str, Any]) -> str:
    parts = [] if row["augmentation"] == "none" else [row["augmentation"]]
    if row["best_epoch"] is not None:
        parts.append(f"epoch {row['best_epoch']} of {row['epochs']}")
    return ", ".join(parts)


def _cell(metric: dict[str, Any]) -> tuple[str, str]:
    if metric["value"] is None:
        return NOTHING, "too few"
    return number(metric["value"]), f"{number(metric['low'])}–{number(metric['high'])}"
