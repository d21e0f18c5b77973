"""Errors as JSON with a code, a sentence and a mend; never a traceback to a client."""

from __future__ import annotations

import logging
import re

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from model.errors import StorageError, TiebreakError

log = logging.getLogger(__name__)


class RequestError(TiebreakError):
    """A request that is answered with ``status`` and a JSON error."""

    def __init__(self, status: int, code: str, message: str, mend: str = "") -> None:
        super().__init__(message, mend=mend)
        self.status = status
        self.code = code


def register_error_handlers(app: Flask) -> None:
    """Make every error of ``app`` JSON."""

    @app.errorhandler(RequestError)
    def refused(error: RequestError) -> Response:
        log.warning("%s is refused: %s", request.path, error)
        answer = _answer(error.code, error.message, error.mend)
        # Of a refusal, Label Studio shows people the status line and nothing else.
        answer.status = f"{error.status} {_status_line(str(error))}"
        return answer

    @app.errorhandler(StorageError)
    def no_storage(error: StorageError) -> tuple[Response, int]:
        log.error("%s", error)
        return _answer("storage", error.message, error.mend), 503

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> tuple[Response, int]:
        code = (error.name or "error").lower().replace(" ", "_")
        return _answer(code, error.description or error.name, ""), error.code or 500

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        log.exception("unexpected error")
        return _answer(
            "unexpected",
            "Something failed inside Tiebreak.",
            "The server's log has the details.",
        ), 500


def _answer(code: str, message: str, mend: str) -> Response:
    return jsonify(code=code, message=message, mend=mend)


def _status_line(sentence: str) -> str:
    """A sentence as an HTTP reason phrase: printable ASCII, one line, not long.

    Label Studio shows it as HTML, so tags lose their brackets and examples are left out.
    """
    plain = re.sub(r"[<>]", "", sentence.partition(", for example")[0])
    return re.sub(r"[^ -~]+", " ", plain)[:400].strip()
