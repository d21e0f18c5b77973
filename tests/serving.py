"""Small servers of the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from typing import TypeVar

Serving = TypeVar("Serving", bound=BaseServer)

POLL_SECONDS = 0.02


@contextmanager
def serving(server: Serving) -> Iterator[Serving]:
    """Let ``server`` answer in a thread of its own, for the length of the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
