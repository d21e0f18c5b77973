"""How far an experiment is: one bar with the time that is left, on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from backend.command import escaped


class ExperimentProgress:
    """One bar, for what is being done now; what is said goes above it."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._bars.add_task("", total=None, visible=False)
        self._head, self._what, self._done = "", "", 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def head(self, text: str) -> None:
        """What the bars that follow belong to."""
        self._head, self._what = text, ""

    def tell(self, what: str, done: int, total: int) -> None:
        """Move the bar; a new one begins when the work changes or starts over."""
        kind = what.partition(",")[0]
        if kind != self._what or done < self._done:
            self._bars.reset(self._task)
            self._what = kind
        self._done = done
        text = escaped(f"{self._head}: {what}" if self._head else what)
        self._bars.update(
            self._task, description=text, completed=done, total=total or None, visible=True
        )

    def say(self, line: str) -> None:
        """A line that stays; rich's markup counts."""
        self._bars.console.print(line)
