"""What a search found, as a table and sentences for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from backend.command import escaped
from backend.tune import Judged, ranked

SHOWN = 10


def trials_table(trials: Sequence[Judged]) -> Table:
    """The best complete trials, and the defaults wherever they come."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    headings = (
        "trial", "log loss", "accuracy %", "optimiser", "backbone rate", "head rate", "momentum",
        "epochs", "weight decay", "augmentation", "seconds",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right" if heading != "optimiser" else "left")
    order = ranked(list(trials))
    for place, trial in enumerate(order):
        if place >= SHOWN and not trial.defaults:
            continue
        o = trial.options
        table.add_row(
            "defaults" if trial.defaults else str(trial.number + 1),
            f"{trial.log_loss:.4f}",
            accuracy_of(trial),
            o["optimiser"],
            f"{o['backbone_rate']:g}",
            f"{o['head_rate']:g}",
            f"{o['momentum']:g}" if o["optimiser"] == "sgd" else "–",
            str(o["epochs"]),
            f"{o['weight_decay']:g}",
            f"{o['augmentation_strength']:g}",
            f"{trial.seconds:.0f}",
            style="bold" if place == 0 else None,
        )
    return table


def trial_line(trial: Judged, total: int) -> str:
    """What is said of a trial when it is finished; rich's markup counts."""
    name = f"trial {trial.number + 1} of {total}" + (" (the defaults)" if trial.defaults else "")
    if trial.ended == "failed":
        return f"[red]✗[/] {name}: {escaped(trial.why)}"
    if trial.ended == "pruned":
        return f"[dim]–[/] {name}: given up, worse than most at that point"
    return f"[green]✓[/] {name}: log loss {trial.log_loss:.4f}, accuracy {accuracy_of(trial)} %"


def gain_sentence(trials: Sequence[Judged], held: int) -> str:
    """What the best trial has over the defaults, in one sentence."""
    order = ranked(list(trials))
    if not order:
        return "No trial came to its end."
    best = order[0]
    defaults = next((trial for trial in order if trial.defaults), None)
    where = f"on the {held:,} training images that it was not tuned on"
    if defaults is None or defaults is best:
        return (
            f"The defaults were not beaten: log loss {best.log_loss:.4f}, accuracy "
            f"{accuracy_of(best)} % {where}."
        )
    return (
        f"Log loss {best.log_loss:.4f} instead of {defaults.log_loss:.4f} with the defaults, "
        f"accuracy {accuracy_of(best)} % instead of {accuracy_of(defaults)} %, {where}. The best "
        "of many trials looks a little better than it is."
    )


def accuracy_of(trial: Judged) -> str:
    """``84.1 (83.4–84.8)``, in percent."""
    if trial.accuracy is None or trial.low is None or trial.high is None:
        return "–"
    return f"{100 * trial.accuracy:.1f} ({100 * trial.low:.1f}–{100 * trial.high:.1f})"
