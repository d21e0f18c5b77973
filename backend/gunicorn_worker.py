"""gunicorn's worker and log in our words: errors as JSON, log lines like all others."""

from __future__ import annotations

import logging
import socket
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.util import write_nonblock

from backend.draining import DrainingWorker
from backend.http_errors import error_for
from backend.log_context import log_context, request_id
from backend.metrics import NO_HTTP, OTHER, REQUESTS
from backend.request_ids import REQUEST_ID_HEADER, new_request_id
from backend.slow_clients import HurriedWorker

log = logging.getLogger(__name__)

_STATUSES: dict[type[Exception], int] = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.UnsupportedTransferCoding: 501,
    errors.ForbiddenProxyRequest: 403,
    errors.InvalidResponseHeader: 500,
    errors.InvalidResponseHeaderName: 500,
    errors.ConfigurationProblem: 500,
}


class Worker(DrainingWorker, HurriedWorker):
    """Answers what is no HTTP, and what fails outside the application, as JSON."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Log why a request cannot be served, and say it. What the request holds may be secret, and
        is neither logged nor answered."""
        status = status_of(exc)
        REQUESTS.labels(OTHER, NO_HTTP, str(status)).inc()
        with log_context(request_id=new_request_id()):
            if status == 500:
                log.error("a request fails outside the application", exc_info=exc)
            else:
                log.warning("what is no HTTP is refused: %s", type(exc).__name__)
            answer = refusal(status)
        try:
            write_nonblock(client, answer)
        except OSError:
            log.debug("the caller is gone")


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log, written by our own handler."""

    def setup(self, cfg: Any) -> None:
        """Hand every line on to the root, which this process has set up already."""
        super().setup(cfg)
        for each in (self.error_log, self.access_log):
            for handler in list(each.handlers):
                each.removeHandler(handler)
            each.propagate = True


def status_of(error: Exception) -> int:
    """The HTTP status for an error that gunicorn could not hand to the application."""
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return 400 if isinstance(error, errors.ParseException) else 500


def refusal(status: int) -> bytes:
    """A whole HTTP answer that says what a status means, after which the connection is closed."""
    error = error_for(status)
    body = error.text().encode()
    head = (
        f"HTTP/1.1 {status} {error.message}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"{REQUEST_ID_HEADER}: {request_id()}",
        "X-Content-Type-Options: nosniff",
    )
    return "\r\n".join([*head, "", ""]).encode("ascii") + body
