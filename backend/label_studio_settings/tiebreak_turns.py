"""One request for a next task at a time."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

PATIENCE_SECONDS = 30.0
_NEXT = re.compile(r".*/api/projects/\d+/next/?")
_ACTIONS = re.compile(r".*/api/dm/actions/?")


class Turns:
    """A WSGI application that gets one request for a next task at a time, and all others at once.

    Guaranteed within one process. A request that waits longer than ``patience`` seconds goes ahead
    without its turn: better an image that somebody else has too than none.
    """

    def __init__(self, application: Application, patience: float = PATIENCE_SECONDS) -> None:
        self._application = application
        self._patience = patience
        self._turn = threading.Lock()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The application's answer; the task is reserved by the time it is returned."""
        if not asks_for_next_task(environ):
            return self._application(environ, start_response)
        has_turn = self._turn.acquire(timeout=self._patience)
        try:
            return self._application(environ, start_response)
        finally:
            if has_turn:
                self._turn.release()


def asks_for_next_task(environ: Environ) -> bool:
    """Whether a request is the API's or the Data Manager's for the next task to label."""
    path = environ.get("PATH_INFO", "")
    if _ACTIONS.fullmatch(path):
        return parse_qs(environ.get("QUERY_STRING", "")).get("id") == ["next_task"]
    return bool(_NEXT.fullmatch(path))
