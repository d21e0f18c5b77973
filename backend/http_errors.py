"""What is said about each HTTP status that is an error: its code, a sentence, and how to mend it.

One table for the routes, for what refuses a request before a route is found, and for gunicorn,
which refuses what is no HTTP at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from backend.log_context import request_id


@dataclass(frozen=True)
class HttpError:
    """An error as a client reads it."""

    status: int
    code: str
    message: str
    mend: str

    def body(self) -> dict[str, str]:
        """The JSON that is answered; the request is the one of this moment."""
        return {
            "code": self.code,
            "message": self.message,
            "mend": self.mend,
            "request_id": request_id(),
        }

    def text(self) -> str:
        """The same as text."""
        return json.dumps(self.body(), ensure_ascii=False)


_SEE = "docs/api.md describes each route, and so does GET /openapi.json."
ERRORS = {
    error.status: error
    for error in (
        HttpError(400, "bad_request", "The request cannot be read.", f"Send it anew. {_SEE}"),
        HttpError(
            401,
            "unauthorized",
            "The request carries no credentials, or wrong ones.",
            "Send the ones that this server is set to.",
        ),
        HttpError(403, "forbidden", "This is not allowed.", f"Ask somebody who may. {_SEE}"),
        HttpError(404, "not_found", "There is no such route.", f"Check the path. {_SEE}"),
        HttpError(405, "method_not_allowed", "The route does not take this method.", _SEE),
        HttpError(406, "not_acceptable", "The answer is JSON.", "Accept application/json."),
        HttpError(
            408, "too_slow", "The request did not arrive in time.", "Send it again, and faster."
        ),
        HttpError(
            411, "no_length", "The body has no length.", "Send the header Content-Length with it."
        ),
        HttpError(
            413,
            "too_large",
            "The body is larger than this server reads.",
            "Send fewer tasks at a time, or raise TIEBREAK_MAX_REQUEST_BYTES.",
        ),
        HttpError(414, "address_too_long", "The address is too long.", f"Shorten it. {_SEE}"),
        HttpError(
            415,
            "not_json",
            "The body is not said to be JSON.",
            "Send JSON, with the header Content-Type: application/json.",
        ),
        HttpError(
            417,
            "expectation_failed",
            "What the header Expect asks for is not offered.",
            "Leave the header out.",
        ),
        HttpError(
            422, "unprocessable", "The request asks for something impossible.", f"Change it. {_SEE}"
        ),
        HttpError(
            429,
            "too_many_requests",
            "There are too many requests.",
            "Wait for as long as the header Retry-After says, then send it again.",
        ),
        HttpError(
            431,
            "headers_too_large",
            "The headers are too many or too large.",
            "Send fewer or shorter ones; cookies are never needed.",
        ),
        HttpError(
            500,
            "unexpected",
            "Something failed inside Tiebreak.",
            "The server's log has the details, under this request_id.",
        ),
        HttpError(
            501,
            "not_offered",
            "This way of sending a request is not offered.",
            f"Change it. {_SEE}",
        ),
        HttpError(
            503,
            "database_unavailable",
            "The database cannot be used right now.",
            "Try again in a moment. If it stays so, check the disk and DATABASE_URL; "
            "the server's log has the details, under this request_id.",
        ),
    )
}


def error_for(status: int) -> HttpError:
    """What is said about a status; about one without a sentence of its own, that of its kind."""
    known = ERRORS.get(status)
    if known is not None:
        return known
    base = ERRORS[500 if status >= 500 else 400]
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return HttpError(status, base.code, base.message, base.mend)
    return HttpError(status, phrase.lower().replace(" ", "_"), f"{phrase}.", base.mend)
