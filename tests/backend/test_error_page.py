from __future__ import annotations

import html
import logging

import pytest
from flask.testing import FlaskClient

from backend.doors import HEADERS
from backend.error_page import error_page
from backend.http_errors import HttpError
from backend.request_ids import REQUEST_ID_HEADER
from tests.callers import basic
from tests.tiebreak_process import NOWHERE

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
SHEET = "/static/tiebreak.css"


@pytest.mark.parametrize(
    ("path", "status", "message", "mend"),
    [
        ("/projects/99", 404, "Project 99 is not connected.", "Run `tiebreak connect 99`."),
        ("/projects/99/versions", 404, "Project 99 is not connected.", "tiebreak connect 99"),
        ("/nothing", 404, "There is no such route.", "Check the path."),
        ("/predict", 405, "The route does not take this method.", "It takes OPTIONS, POST."),
    ],
)
def test_a_browser_is_shown_a_page(
    client: FlaskClient, path: str, status: int, message: str, mend: str
) -> None:
    answer = client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.content_type) == (status, "text/html; charset=utf-8")
    text = html.unescape(answer.text)
    assert message in text
    assert mend in text
    assert f"<h1>{status} " in text
    assert 'href="/"' in text
    assert f'rel="stylesheet" href="{SHEET}"' in text
    assert answer.headers[REQUEST_ID_HEADER] in text
    assert HEADERS.items() <= dict(answer.headers).items()
    assert answer.headers["Cache-Control"] == "no-store"
    again = client.get(path)
    assert again.json["message"] == message, "a program gets JSON"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/avif,*/*;q=0.8", "", None])
def test_everybody_else_gets_json(client: FlaskClient, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    assert client.get("/nothing", headers=headers).json["code"] == "not_found"


@pytest.mark.parametrize("path", ["/api/projects/99", "/api/nothing", "/api", "/api/"])
def test_the_api_answers_json_to_browsers_too(client: FlaskClient, path: str) -> None:
    assert client.get(path, headers=BROWSER).json["code"] in ("not_found", "unknown_project")


def test_a_wrong_password_is_told_without_anything_that_needs_one(client: FlaskClient) -> None:
    visitor = client.application.test_client()
    for sent, message in (
        ({}, "Tiebreak wants a user and a password here."),
        (basic(password="password-of-others"), "The user, the password or the token is wrong."),
    ):
        answer = visitor.get("/", headers={**BROWSER, **sent})
        assert (answer.status_code, answer.mimetype) == (401, "text/html")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert message in answer.text
        assert SHEET not in answer.text
        assert NOWHERE not in answer.text
        assert HEADERS.items() <= dict(answer.headers).items()


def test_everything_is_escaped(client: FlaskClient) -> None:
    hostile = "<script>alert('x')</script>"
    with client.application.test_request_context("/"):
        text = error_page(HttpError(422, "x", hostile, hostile))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 2
    answer = client.get(f"/{hostile}", headers=BROWSER)
    assert hostile not in answer.text


def test_what_fails_inside_is_a_page_without_a_traceback(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> str:
        raise ZeroDivisionError("inner secret")

    client.get("/health")  # the description is made of the views as they are
    monkeypatch.setitem(client.application.view_functions, "pages.status", fail)
    caplog.set_level(logging.CRITICAL)
    answer = client.get("/", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (500, "text/html")
    assert "Something failed inside Tiebreak." in answer.text
    assert "inner secret" not in answer.text
