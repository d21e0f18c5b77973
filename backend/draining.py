"""A gunicorn worker that loses no connection when it is told to stop."""

from __future__ import annotations

import select

from gunicorn.workers.gthread import ThreadWorker


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """Answers what was connected before it stops listening.

    The kernel goes on connecting callers for a worker that accepts no longer, and resets them all
    when the last worker ends: to them a request fails that was never looked at. So the worker takes
    over who waits at its sockets and closes these first. After that a caller is refused at once,
    or another worker of the same sockets takes the call.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        """Listen or not; a worker that stops takes over who waits, and closes its sockets."""
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            while select.select([listener], [], [], 0)[0]:
                self.accept(listener)
            listener.close()
