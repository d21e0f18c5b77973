"""The address that the server listens at: free, or said to be taken before anything starts."""

from __future__ import annotations

import errno
import socket
import time

from backend.errors import SetupError

PATIENCE_SECONDS = 5.0
"""A server that was killed may leave workers that hold its port until they notice."""
PAUSE_SECONDS = 0.2


def require_free(host: str, port: int, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once the server can listen there.

    Raises :class:`SetupError` when another program still has the port after ``seconds``, or when
    this machine cannot listen at that address at all.
    """
    deadline = time.monotonic() + seconds
    while (error := _refusal(host, port)) is not None:
        if error.errno != errno.EADDRINUSE:
            raise SetupError(
                f"The server cannot listen at {host}:{port} ({error.strerror}).",
                mend="Set TIEBREAK_HOST to an address of this machine, and TIEBREAK_PORT to a port "
                "that this user may open.",
            )
        if time.monotonic() >= deadline:
            raise SetupError(
                f"The server cannot listen at {host}:{port}: another program has that port.",
                mend="End that program, which may be another tiebreak serve, or set TIEBREAK_PORT "
                "to a port that is free.",
            )
        time.sleep(PAUSE_SECONDS)


def _refusal(host: str, port: int) -> OSError | None:
    """Why the system does not give the port now, asked as gunicorn asks for it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None
