"""An error as a page, for people whose browser was led to it."""

from __future__ import annotations

from http import HTTPStatus

from flask import current_app, request

from backend.http_errors import HttpError
from backend.log_context import request_id


def wants_page() -> bool:
    """Whether the current request comes from a browser that is to show what is answered.

    Programs that take anything, as scripts of the pages and Label Studio do, get JSON.
    """
    if request.path == "/api" or request.path.startswith("/api/"):
        return False
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def error_page(error: HttpError) -> str:
    """The page, everything in it escaped.

    Other than the pages it says nothing of the settings: who reads it may not be logged in.
    """
    # Not by Flask's render_template, which would hand the settings to it.
    template = current_app.jinja_env.get_template("error.html")
    return template.render(error=error, title=_title(error.status), request_id=request_id())


def _title(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
