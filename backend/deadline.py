"""How long what a thread does may still take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """What this thread fetches and decodes inside the block ends ``seconds`` from now.

    Inside another limit the sooner of the two holds.
    """
    ends, outer = time.monotonic() + seconds, _deadline.get()
    token = _deadline.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left() -> float | None:
    """Seconds until the limit that holds here, below 0 once it is over; None without a limit."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - time.monotonic()
