"""Every request has an id: the caller's own where it is well-formed, else one made here.

It is answered in the header, stands in every log line of the request, is kept with the hint that
the request leaves, and stands in the log lines of what the trainer does about it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from backend.log_context import log_context

REQUEST_ID_HEADER = "X-Request-ID"
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")


def new_request_id() -> str:
    """An id that no other request has."""
    return secrets.token_hex(8)


def accepted(sent: str | None) -> str:
    """The caller's id, or a new one where there is none or it is not well-formed."""
    return sent if sent and WELL_FORMED.fullmatch(sent) else new_request_id()


class RequestIds:
    """WSGI middleware that gives each request its id.

    It stands around the whole application, so that whatever refuses a request has the id too.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        number = accepted(environ.get("HTTP_X_REQUEST_ID"))

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, (REQUEST_ID_HEADER, number)], *rest)

        with log_context(request_id=number):
            return self._app(environ, start)
