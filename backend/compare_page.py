"""A comparison as one page with a table and plots, which needs no network and no other file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from plotly.offline import get_plotlyjs

from backend.compare_figures import FIGURES
from backend.compare_table import NOTHING, millions, number, percent, seconds
from backend.errors import SetupError

PAGES = Path(__file__).with_name("pages")
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


def write_page(path: Path, text: PageText, rows: Sequence[dict[str, Any]]) -> None:
    """Write the page of ``rows``, best first; the one that was there stays until it is whole.

    :class:`SetupError` when it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(render_page(text, rows), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}).",
            mend="Name a place that can be, with --out.",
        ) from None


def render_page(text: PageText, rows: Sequence[dict[str, Any]]) -> str:
    """The page as HTML."""
    ordered = sorted(rows, key=_place)
    good = [row for row in ordered if not row["error"]]
    shown = FIGURES if good else ()
    templates = Flask(__name__, template_folder=str(PAGES / "templates")).jinja_env
    return templates.get_template("compare.html").render(
        title=text.title,
        subtitle=text.subtitle,
        machine=text.machine,
        best=_best(good),
        headings=HEADINGS,
        lines=[_line(row) for row in ordered],
        figures=[
            {"id": f"plot-{key}", "title": title, "text": said} for key, title, said, _ in shown
        ],
        style=(PAGES / "static" / "tiebreak.css").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        drawings=_script_json({f"plot-{key}": draw(good) for key, _, _, draw in shown}),
    )


def _script_json(value: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(value).replace("<", "\\u003c")


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
