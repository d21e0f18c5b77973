"""What was found to be complete lately, so that not every label has a whole project looked through.

Kept in the memory of one trainer, for one period between two looks at the whole project at most:
what another process changes without a hint is found as late as if the hint had been lost.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from backend import clock


class Calm:
    """Facts about projects that hold until something of the project is disturbed."""

    def __init__(self) -> None:
        self._facts: dict[int, dict[Hashable, tuple[float, Any]]] = {}

    def find(self, project_id: int, what: Hashable) -> Any:
        """What was kept last; None where nothing holds any more."""
        until, value = self._facts.get(project_id, {}).get(what, (0.0, None))
        return value if clock.now() < until else None

    def keep(self, project_id: int, what: Hashable, value: Any, until: float) -> None:
        """Keep a value, which is not None, until that time at the latest."""
        self._facts.setdefault(project_id, {})[what] = until, value

    def disturb(self, project_id: int) -> None:
        """Forget all about a project: its tasks, its images or its groups have changed."""
        self._facts.pop(project_id, None)
