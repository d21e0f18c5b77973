"""A comparison as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from backend.command import escaped

NOTHING = "–"


def comparison_table(rows: Iterable[dict[str, Any]]) -> Table:
    """One line for each backbone and way of transfer."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("backbone", overflow="fold")
    table.add_column("mode", overflow="fold")
    for heading in (
        "px",
        "accuracy %",
        "macro F1",
        "ROC AUC",
        "log loss",
        "ECE",
        "params",
        "trained",
        "s/epoch",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        name = (escaped(row["backbone"]), escaped(row["mode"]), str(row["input_size"]))
        if row["error"]:
            table.add_row(*name, "[red]failed[/]", *[NOTHING] * 7)
            continue
        metrics = row["metrics"]
        table.add_row(
            *name,
            percent(metrics["accuracy"]),
            *(number(metrics[metric]["value"]) for metric in ("macro_f1", "roc_auc", "log_loss")),
            number(metrics["ece"]["value"]),
            millions(row["parameters"]),
            millions(row["trainable"]),
            seconds(row["seconds_per_epoch"]),
        )
    return table


def row_line(row: dict[str, Any]) -> str:
    """What is said of a row when it is finished; rich's markup counts."""
    name = f"{row['backbone']} {row['mode']}"
    if row["error"]:
        return f"[red]✗[/] {escaped(name)}: {escaped(row['error'])} {escaped(row['mend'])}".rstrip()
    when = "from an earlier run" if row.get("earlier") else f"{row['took']:.0f} s"
    accuracy = percent(row["metrics"]["accuracy"])
    loss = number(row["metrics"]["log_loss"]["value"])
    return f"[green]✓[/] {escaped(name)}: accuracy {accuracy} %, log loss {loss} ({when})"


def percent(metric: dict[str, Any]) -> str:
    """``84.1 (83.4–84.8)``; a dash where it cannot be told."""
    if metric["value"] is None:
        return NOTHING
    value, low, high = (100 * metric[key] for key in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def number(value: float | None) -> str:
    """Three digits after the point."""
    return NOTHING if value is None else f"{value:.3f}"


def millions(count: int) -> str:
    """``2,236,682`` as ``2.24M``, below 100,000 in thousands."""
    return f"{count / 1e6:.2f}M" if count >= 100_000 else f"{count / 1e3:.1f}k"


def seconds(value: float | None) -> str:
    """Three digits."""
    return NOTHING if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
