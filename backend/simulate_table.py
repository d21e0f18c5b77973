"""A simulation as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from backend.command import escaped
from backend.simulation_summary import REFERENCE
from backend.simulation_text import gain, labels_needed, labels_spread, percent, spread, times


def simulation_table(summary: Mapping[str, Any]) -> Table:
    """One line for each budget, one column for each strategy; labels to the target below."""
    parts = summary["strategies"]
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("labels", justify="right", no_wrap=True)
    for part in parts:
        table.add_column(f"{escaped(part['strategy'])} %", justify="right", no_wrap=True)
    for place, point in enumerate(parts[0]["curve"] if parts else ()):
        cells = [_cell(part, part["curve"][place]) for part in parts]
        last = place + 1 == len(parts[0]["curve"])
        table.add_row(f"{point['labels']:,}", *cells, end_section=last)
    if summary["target"] is not None:
        goal = f"labels to {percent(summary['target'])}"
        table.add_row(goal, *(labels_needed(part) for part in parts))
        table.add_row("over seeds", *(labels_spread(part) for part in parts))
        table.add_row("saving", *(times(part) for part in parts))
    return table


def run_line(row: Mapping[str, Any]) -> str:
    """What is said of a run when it is finished; rich's markup counts."""
    when = "from an earlier run" if row.get("earlier") else f"{row['took']:.0f} s"
    last = row["curve"][-1]
    return (
        f"[green]✓[/] {escaped(row['strategy'])}, seed {row['seed']}: "
        f"{percent(last['accuracy'])} % with {last['labels']:,} labels ({when})"
    )


def _cell(part: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    mean = f"{percent(point['accuracy'])} ({spread(point)})"
    if part["strategy"] == REFERENCE or point["gain"] is None:
        return mean
    return f"{mean} {gain(point)}"
