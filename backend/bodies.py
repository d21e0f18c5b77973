"""What a request may carry: JSON, of bounded size."""

from __future__ import annotations

from typing import TypeVar

from flask import current_app, request
from pydantic import ValidationError

from backend.payloads import Payload
from backend.web_errors import RequestError

Body = TypeVar("Body", bound=Payload)


def check_body() -> None:
    """Refuse a body by what its headers say, before any of it is read."""
    if (request.content_length or 0) > _limit():
        raise _too_large()
    if not request.is_json:
        raise RequestError(
            415,
            "not_json",
            "The body is not said to be JSON.",
            "Send JSON, with the header Content-Type: application/json.",
        )


def read_body() -> bytes:
    """The body. Of one without a length, no more is read than is allowed; 413 when it is longer.

    Werkzeug would hand out the beginning of such a body as if it were all of it.
    """
    data = request.get_data()
    if request.content_length is None and len(data) >= _limit():
        raise _too_large()
    return data


def read_payload(model: type[Body]) -> Body:
    """The request's JSON as ``model``; a clear 400 for anything else."""
    try:
        return model.model_validate_json(read_body())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise RequestError(
            400,
            "bad_payload",
            f"{where}: {first['msg']}.",
            "Send JSON as docs/api.md describes it.",
        ) from None


def _limit() -> int:
    limit: int = current_app.config["MAX_CONTENT_LENGTH"]
    return limit


def _too_large() -> RequestError:
    return RequestError(
        413,
        "too_large",
        f"The body is larger than {_limit():,} bytes.",
        "Send fewer tasks at a time, or raise TIEBREAK_MAX_REQUEST_BYTES.",
    )
