"""How the tests' own callers prove themselves to a Tiebreak server."""

from __future__ import annotations

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Authorization

USER = "tiebreak"
PASSWORD = "password-of-the-tests"
API_TOKEN = "api-token-of-the-tests"
WEBHOOK_SECRET = "secret-of-the-test"
LOG_IN = (USER, PASSWORD)


def basic(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    """The header that a browser or Label Studio sends."""
    sent = Authorization("basic", {"username": user, "password": password})
    return {"Authorization": sent.to_header()}


def logged_in(app: Flask) -> FlaskClient:
    """A client of an app that logs in with every request."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = basic()["Authorization"]
    return client
