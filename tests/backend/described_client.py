"""Flask's test client, which holds each answer to the app's own OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.test import TestResponse

from backend.http_errors import ERRORS
from backend.openapi import describe, template
from backend.request_ids import REQUEST_ID_HEADER, WELL_FORMED

ANYWHERE = {400, 401, 403, 413, 414, 415, 417, 429, 431, 500, 503}
"""What may be said before it is known whether there is a route."""
Json = dict[str, Any]


class DescribedClient(FlaskClient):
    """Fails a test whose answer is not as it is described."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, **kwargs)
        request = answer.request
        check_answer(
            self.application,
            request.method,
            request.path,
            answer.status_code,
            dict(answer.headers.items()),
            answer.data,
        )
        return answer


def check_answer(
    app: Flask, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """AssertionError where an answer is not what the description of ``app`` says."""
    described = description(app)
    assert WELL_FORMED.fullmatch(headers[REQUEST_ID_HEADER])
    media = headers.get("Content-Type", "").partition(";")[0]
    if method == "HEAD":
        assert body == b""
        return
    operation = operation_of(app, described, method, path)
    if isinstance(operation, HTTPException):
        assert status in ANYWHERE | {operation.code}, f"{method} {path}: {status}"
        check_error(described, status, media, headers, body)
        if status == 405:
            assert headers["Allow"]
        return
    if operation is None:  # OPTIONS
        assert (status, body) == (200, b"") or status in ANYWHERE
        return
    answers = operation["responses"]
    assert str(status) in answers, f"{method} {path}: {status} is not described"
    content = answers[str(status)]["content"]
    assert media in content or "*/*" in content, f"{method} {path}: {media} is not described"
    if status >= 400:
        check_error(described, status, media, headers, body)
    elif media == "application/json":
        _validate(described, content[media]["schema"], body)


def check_error(
    described: Json, status: int, media: str, headers: Mapping[str, str], body: bytes
) -> None:
    """AssertionError where an error does not say what is wrong, or shows what is inside."""
    assert status in ERRORS
    assert media in ("application/json", "text/html")
    if media == "application/json":
        _validate(described, {"$ref": "#/components/schemas/ErrorAnswer"}, body)
    assert b"Traceback" not in body
    assert headers[REQUEST_ID_HEADER].encode() in body
    if status in (429, 503):
        assert int(headers["Retry-After"]) > 0


def operation_of(
    app: Flask, described: Json, method: str, path: str
) -> Json | HTTPException | None:
    """The description for a request; the error where it leads nowhere, None for OPTIONS."""
    try:
        rule, _ = app.url_map.bind("localhost").match(path, method, return_rule=True)
    except (NotFound, MethodNotAllowed) as error:
        return error
    return dict(described["paths"][template(rule.rule)]).get(method.lower())


def description(app: Flask) -> Json:
    """The description of an app, made once."""
    kept = app.extensions.setdefault("description", {})
    if not kept:
        kept.update(describe(app))
    return dict(kept)


def _validate(described: Json, schema: Json, body: bytes) -> None:
    import json

    # References are looked up in the whole description.
    whole = {**schema, "components": described["components"]}
    Draft202012Validator(whole).validate(json.loads(body))
