"""Counts every request, by the template of its route and not by its path."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from backend.metrics import count_request

NO_ROUTE = "(no route)"


class CountedRequests:
    """WSGI middleware that counts and times what the application answers."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began, status, route = time.perf_counter(), 500, NO_ROUTE

        def start(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal status, route
            status = int(line.split()[0])
            # Flask takes it away again before the application returns.
            rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
            route = rule.rule if rule is not None else NO_ROUTE
            return start_response(line, headers, *rest)

        try:
            return self._app(environ, start)
        finally:
            seconds = time.perf_counter() - began
            count_request(str(environ.get("REQUEST_METHOD")), route, status, seconds)
