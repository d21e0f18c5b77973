"""What ``tiebreak status`` prints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backend.command import errors, escaped
from backend.finetunes import FAILED, UNDER_WAY
from backend.projects import ProjectStatus


def print_status(
    statuses: Sequence[ProjectStatus], alive: bool, data_dir: Path, unseen: Collection[int]
) -> None:
    """How projects stand on standard output, what is wrong on standard error. ``unseen``: numbers
    of the projects that no trainer has ever looked at."""
    if not statuses:
        errors.print(f"No project is connected in the data folder {data_dir.resolve()}.")
        errors.print("Connect one: tiebreak connect PROJECT; or name the folder: TIEBREAK_DATA_DIR")
        return
    console = Console(highlight=False)
    console.print(_status_table(statuses, unseen))
    for s in statuses:
        for sentence in s.outlook["sentences"]:
            console.print(f"{s.id} {escaped(s.title)}: {escaped(sentence)}", soft_wrap=True)
    _print_troubles(statuses)
    if not alive:
        errors.print("No trainer is running. Start one: tiebreak trainer")


def _status_table(statuses: Sequence[ProjectStatus], unseen: Collection[int]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("project", "version", "labelled", "queue", "images", "state"):
        table.add_column(heading)
    for s in statuses:
        trouble = s.error or s.config_problem or s.troubles
        at_rest = "no trainer has run yet" if s.id in unseen else "up to date"
        state = "trouble, see below" if trouble else s.activity or s.waiting or at_rest
        images = f"{s.embedded}/{s.images}" + (f", {s.broken} broken" if s.broken else "")
        table.add_row(
            escaped(f"{s.id} {s.title}"),
            s.version,
            f"{s.labelled} + {s.automatic} automatic" if s.automatic else str(s.labelled),
            str(s.unlabelled),
            images,
            escaped(state),
        )
    return table


def _print_troubles(statuses: Sequence[ProjectStatus]) -> None:
    for s in statuses:
        if s.finetune and s.finetune["state"] in (*UNDER_WAY, FAILED):
            errors.print(f"{s.id} {escaped(s.title)}: {escaped(s.finetune['sentence'])}")
        failed = [trouble["sentence"] for trouble in s.troubles]
        for trouble in filter(None, (s.error, s.config_problem, *failed)):
            errors.print(f"{s.id} {escaped(s.title)}: {escaped(trouble)}")
        for sentence in _left_out(s):
            errors.print(f"{s.id} {escaped(s.title)}: {escaped(sentence)}")


def _left_out(status: ProjectStatus) -> list[str]:
    """A sentence for each control with labels that do not fit the labelling config."""
    return [
        f"{c.name}: kept, but not learned from: {'; '.join(c.outside)}. {c.advice}"
        for c in status.controls
        if c.outside
    ]
