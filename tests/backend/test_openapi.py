"""The OpenAPI description: whole, true, and the same as the page of documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import validate

from backend.described import Description, described
from backend.openapi import describe, template
from backend.payloads import LARGEST_ID
from backend.store import Store
from tests.backend.databases import on_sqlite
from tests.backend.described_client import check_answer

API = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture
def spec(client: FlaskClient) -> dict[str, object]:
    """The description as it is served."""
    return dict(client.get("/openapi.json").json)


def operations(spec: dict) -> set[str]:  # type: ignore[type-arg]
    return {f"{method.upper()} {path}" for path, each in spec["paths"].items() for method in each}


def test_it_is_openapi(spec: dict) -> None:  # type: ignore[type-arg]
    validate(spec)
    for schema in spec["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_route_is_in_it_and_no_other(client: FlaskClient, spec: dict) -> None:  # type: ignore[type-arg]
    routes = {
        f"{method} {template(rule.rule)}"
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert operations(spec) == routes


def test_the_page_of_documentation_has_the_same(spec: dict) -> None:  # type: ignore[type-arg]
    headings = re.findall(r"^### `([A-Z]+) (/[^`]*)`", API.read_text(encoding="utf-8"), re.M)
    assert operations(spec) == {f"{method} {template(path)}" for method, path in headings}


def test_every_operation_has_its_errors_and_a_sentence(spec: dict) -> None:  # type: ignore[type-arg]
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"].endswith((".", ":")), path
            statuses = set(operation["responses"])
            assert {"200", "400", "429", "500"} <= statuses
            assert ("401" in statuses) == (path != "/health") == bool(operation["security"])
            ways = {name for way in operation["security"] for name in way}
            assert ("token" in ways) == path.startswith(("/api/", "/metrics", "/openapi.json"))
            assert ("webhook" in ways) == (path == "/webhook")
            assert ("413" in statuses) == ("requestBody" in operation) == (method == "post")
            assert ("404" in statuses) == ("{" in path)


def test_a_view_that_says_nothing_is_found_out() -> None:
    app = Flask(__name__)
    app.add_url_rule("/x", "x", lambda: "")
    with pytest.raises(AttributeError):
        describe(app)


@pytest.mark.parametrize(
    ("status", "media", "body"),
    [
        (418, "application/json", b"{}"),
        (200, "text/html", b"{}"),
        (200, "application/json", b'{"status": "DOWN", "model_class": "Tiebreak"}'),
        (200, "application/json", b'{"status": "UP", "model_class": "Tiebreak", "more": 1}'),
        (400, "application/json", b'{"code": "x", "message": "y", "mend": "", "request_id": "z"}'),
    ],
)
def test_an_answer_that_is_not_as_described_is_found_out(
    client: FlaskClient, status: int, media: str, body: bytes
) -> None:
    headers = {"X-Request-ID": "z", "Content-Type": media}
    with pytest.raises((AssertionError, ValidationError)):
        check_answer(client.application, "GET", "/health", status, headers, body)


def test_the_largest_number_is_a_number(client: FlaskClient) -> None:
    for number in (LARGEST_ID, LARGEST_ID + 1, 2**63, 10**30):
        answer = client.get(f"/api/projects/{number}")
        assert (answer.status_code, answer.json["code"]) == (404, "unknown_project")
        asked = client.get(f"/versions?project={number}")
        assert asked.status_code == (200 if number == LARGEST_ID else 400)
        body = {"project": number, "action": "START_TRAINING"}
        taken = client.post("/train", json=body)
        assert taken.status_code == (200 if number == LARGEST_ID else 400)


@pytest.mark.parametrize("sent", ["", "-1", "x", "1.5", "٣", "1 "])
def test_what_is_no_number_is_said_to_be_none(client: FlaskClient, sent: str) -> None:
    answer = client.get("/versions", query_string={"project": sent})
    assert (answer.status_code, answer.json["code"]) == (400, "bad_project")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/predict", 405, "method_not_allowed"),
        ("GET", "/static/none.css", 404, "not_found"),
        ("GET", "/static/../app.py", 404, "not_found"),
    ],
)
def test_each_error_says_how_to_mend_it(
    client: FlaskClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert len(answer.json["mend"]) > 10
    if status == 405:
        assert set(answer.allow) == {"OPTIONS", "POST"}
        assert "OPTIONS, POST" in answer.json["mend"]


def test_a_body_that_is_too_large_or_no_json(client: FlaskClient) -> None:
    client.application.config["MAX_CONTENT_LENGTH"] = 100
    large = client.post("/train", json={"project": 1, "more": "x" * 200})
    assert (large.status_code, large.json["code"]) == (413, "too_large")
    assert "100 bytes" in large.json["message"]
    assert "TIEBREAK_MAX_REQUEST_BYTES" in large.json["mend"]
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data", None):
        form = client.post("/train", data=b'{"project": 1}', content_type=kind)
        assert (form.status_code, form.json["code"]) == (415, "not_json")
        assert "application/json" in form.json["mend"]


def test_head_and_options(client: FlaskClient) -> None:
    head, got = client.head("/health"), client.get("/health")
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert client.head("/nowhere").status_code == 404
    assert set(client.options("/predict").allow) == {"OPTIONS", "POST"}


@described(Description())
def failing() -> str:
    """Fail."""
    raise ZeroDivisionError("secret-in-an-error")


def test_what_is_unexpected_tells_nothing(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.application.add_url_rule("/fail", "fail", failing)
    answer = client.get("/fail", headers={"X-Request-ID": "look-for-me"})
    assert (answer.status_code, answer.json["code"]) == (500, "unexpected")
    assert answer.json["request_id"] == "look-for-me"
    assert "secret-in-an-error" not in answer.text
    assert "ZeroDivisionError: secret-in-an-error" in caplog.text


@on_sqlite
def test_a_database_that_is_gone_says_so(client: FlaskClient, store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE hints")
    body = {"action": "START_TRAINING", "project": {"id": 1}}
    answer = client.post("/webhook", json=body)
    assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")
    assert answer.headers["Retry-After"] == "5"
