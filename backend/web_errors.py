"""Errors as JSON with a code, a sentence and a mend; never a traceback to a client."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from model.errors import TiebreakError

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
    def refused(error: RequestError) -> tuple[Response, int]:
        return _answer(error.code, error.message, error.mend), error.status

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
