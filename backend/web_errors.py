"""Errors with a code, a sentence and a mend, as JSON or to a browser as a page; never a traceback
to a client."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace

from flask import Flask, Response, request
from gunicorn.http.errors import NoMoreData, ParseException
from sqlalchemy.exc import InterfaceError, OperationalError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.sansio.response import Response as SansIOResponse

from backend.error_page import error_page, wants_page
from backend.http_errors import HttpError, error_for
from model.errors import StorageError, TiebreakError

log = logging.getLogger(__name__)

RETRY_SECONDS = 5


class RequestError(TiebreakError):
    """A request that is answered with ``status``, an error, and ``headers`` beside it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        mend: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, mend=mend or error_for(status).mend)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


def register_error_handlers(app: Flask) -> None:
    """Make every error of ``app`` JSON, or a page where a browser asks for one."""

    @app.errorhandler(RequestError)
    def refused(error: RequestError) -> Response:
        # A browser asks without a password first, each time.
        asked = error.status == 401 and "Authorization" not in request.headers
        log.log(logging.INFO if asked else logging.WARNING, "%s is refused: %s", _route(), error)
        answer = _answer(HttpError(error.status, error.code, error.message, error.mend))
        # Of a refusal, Label Studio shows people the status line and nothing else.
        answer.status = f"{error.status} {_status_line(str(error))}"
        answer.headers.update(error.headers)
        return answer

    @app.errorhandler(StorageError)
    def no_storage(error: StorageError) -> Response:
        log.error("%s", error)
        answer = _answer(HttpError(503, "storage", error.message, error.mend))
        answer.headers["Retry-After"] = str(RETRY_SECONDS)
        return answer

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> SansIOResponse:
        if error.response is not None or (error.code or 500) < 400:
            return error.get_response()  # a redirect to the route's proper spelling
        answer = _answer(_explained(error, error.code or 500))
        for name, value in error.get_headers():  # Allow and Retry-After are among them
            if name.lower() != "content-type":
                answer.headers[name] = value
        return answer

    @app.errorhandler(ParseException)
    @app.errorhandler(NoMoreData)
    def unreadable(error: Exception) -> Response:
        # gunicorn reads a body while the route asks for it, and finds it malformed only then
        log.info("%s: its body is not HTTP: %s", _route(), type(error).__name__)
        answer = _answer(error_for(400))
        answer.headers["Connection"] = "close"
        return answer

    @app.errorhandler(OperationalError)
    @app.errorhandler(InterfaceError)
    def no_database(error: Exception) -> Response:
        log.exception("%s: the database failed", _route())
        answer = _answer(error_for(503))
        answer.headers["Retry-After"] = str(RETRY_SECONDS)
        return answer

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.exception("%s: unexpected error", _route())
        return _answer(error_for(500))


def _explained(error: HTTPException, status: int) -> HttpError:
    said = error_for(status)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = ", ".join(sorted(error.valid_methods))
        return replace(said, mend=f"It takes {allowed}. {said.mend}")
    limit = request.max_content_length
    if isinstance(error, RequestEntityTooLarge) and limit is not None:
        return replace(said, message=f"The body is larger than {limit:,} bytes.")
    return said


def _route() -> str:
    """Method and template of the route; the path itself may hold anything."""
    return f"{request.method} {request.url_rule.rule if request.url_rule else '(no route)'}"


def _answer(error: HttpError) -> Response:
    if wants_page():
        return Response(error_page(error), error.status, content_type="text/html; charset=utf-8")
    return Response(error.text(), error.status, content_type="application/json")


def _status_line(sentence: str) -> str:
    """A sentence as an HTTP reason phrase: printable ASCII, one line, not long.

    Label Studio shows it as HTML, so tags lose their brackets and examples are left out.
    """
    plain = re.sub(r"[<>]", "", sentence.partition(", for example")[0]).replace("→", "/")
    return re.sub(r"[^ -~]+", " ", plain)[:400].strip()
