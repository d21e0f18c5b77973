"""A request arrives within a time, or its connection is closed.

gunicorn's threads wait for the rest of a request for as long as the client likes, and for a client
that does not read its answer: a handful of such clients would occupy every thread for good.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import ThreadWorker

from backend.settings import load_settings


class HurriedWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, with a deadline for each request to arrive and for its answer to go."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seconds = load_settings().request_seconds

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection. Runs in a thread, once data has arrived."""
        if not isinstance(conn.sock, HurriedSocket):
            conn.sock = HurriedSocket(conn.sock)
        conn.sock.expect(self._seconds)
        return super().handle(conn)


class HurriedSocket:
    """A socket with a deadline for all that is read, and a time limit for each answer.

    A shorter timeout that somebody else sets counts as well, and ends as they expect.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._seconds = 0.0
        self._deadline = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def expect(self, seconds: float) -> None:
        """Give the client so many seconds from now for its request."""
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Some bytes; ``NoMoreData``, as when the client is gone, after the deadline."""
        left = self._deadline - time.monotonic()
        given = self._sock.gettimeout()
        if given is not None and given < left:
            return self._sock.recv(size, flags)
        if left <= 0:
            raise NoMoreData
        self._sock.settimeout(left)
        try:
            return self._sock.recv(size, flags)
        except TimeoutError:
            raise NoMoreData from None
        finally:
            self._sock.settimeout(given)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Send all of it; ``BrokenPipeError``, as when the client is gone, after the time limit."""
        given = self._sock.gettimeout()
        self._sock.settimeout(self._seconds if given is None else min(given, self._seconds))
        try:
            self._sock.sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client does not read its answer") from None
        finally:
            self._sock.settimeout(given)
