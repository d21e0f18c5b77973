"""What a person sees while something long starts: one line per step, with how long it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

REMINDER_SECONDS = 10.0


class Step:
    """A step under way. ``note`` says what it is at; ``result`` what its final line adds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.result = ""
        self._at = ""
        self._progress: Progress | None = None

    def note(self, text: str) -> None:
        """Say what the step is at, in a few words."""
        self._at = text
        if self._progress is not None:
            for task in self._progress.task_ids:
                self._progress.update(task, description=self.line())

    def line(self) -> str:
        """The step as one line of rich's markup."""
        return escape(self.title) + (f" [dim]{escape(self._at)}[/]" if self._at else "")


class Steps:
    """Steps, one after the other, on a console.

    On a terminal the step under way has a spinner and a clock; elsewhere (a log, CI) it is told
    when it begins and every ten seconds.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step that lasts as long as the block; an exception leaves a cross instead of a tick."""
        step = Step(title)
        began = time.monotonic()
        show = self._spinner if self._console.is_terminal else self._reminders
        try:
            with show(step):
                yield step
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                self._end(step, "[red]✗[/]", began)
            raise
        self._end(step, "[green]✓[/]", began)

    def say(self, text: str) -> None:
        """A line of its own; ``text`` is taken as it is, not as markup."""
        self._console.print(escape(text))

    def warn(self, text: str) -> None:
        """A line that asks for attention."""
        self._console.print(f"[yellow]![/] {escape(text)}")

    def _end(self, step: Step, mark: str, began: float) -> None:
        result = f": {escape(step.result)}" if step.result else ""
        seconds = time.monotonic() - began
        self._console.print(f"{mark} {escape(step.title)}{result} [dim]{seconds:.1f} s[/]")

    @contextmanager
    def _spinner(self, step: Step) -> Iterator[None]:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            progress.add_task(step.line(), total=None)
            step._progress = progress
            try:
                yield
            finally:
                step._progress = None

    @contextmanager
    def _reminders(self, step: Step) -> Iterator[None]:
        began, done = time.monotonic(), threading.Event()
        self._console.print(f"  {step.line()} …")

        def remind() -> None:
            while not done.wait(REMINDER_SECONDS):
                self._console.print(f"  {step.line()} … {time.monotonic() - began:.0f} s")

        reminder = threading.Thread(target=remind, daemon=True)
        reminder.start()
        try:
            yield
        finally:
            done.set()
            reminder.join()
