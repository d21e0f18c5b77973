"""Log lines: their fields, and no secret in any of them."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import log_secrets
from backend.log_context import log_context
from backend.log_formats import JsonFormatter, TextFormatter
from backend.log_secrets import HIDDEN, hide, hide_basic, hide_settings, scrubbed
from backend.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_secrets, "_hidden", {})


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("room", logging.WARNING, __file__, 1, message, args, info)


def as_json(made: logging.LogRecord) -> dict[str, object]:
    line = JsonFormatter("server").format(made)
    assert "\n" not in line
    return dict(json.loads(line))


def test_a_json_line_has_its_fields() -> None:
    made = record("%d tasks of “%s”", 3, "Katzen\n")
    made.created = 1_769_860_800.25
    with log_context(request_id="abc", project=7):
        line = as_json(made)
    assert line == {
        "time": "2026-01-31T12:00:00.250000Z",
        "level": "warning",
        "logger": "room",
        "message": "3 tasks of “Katzen\n”",
        "request_id": "abc",
        "project": 7,
        "process": "server",
        "pid": made.process,
    }


@given(st.floats(0, 4e9, allow_nan=False))
def test_times_are_utc(at: float) -> None:
    made = record("x")
    made.created = at
    said = datetime.fromisoformat(str(as_json(made)["time"]))
    assert abs((said - datetime.fromtimestamp(at, UTC)).total_seconds()) < 1e-5


def test_a_traceback_is_a_field() -> None:
    try:
        raise ValueError("planted-secret-1")
    except ValueError as error:
        made = record("it failed", error=error)
    hide("planted-secret-1")
    line = as_json(made)
    assert str(line["traceback"]).startswith("Traceback (most recent call last)")
    assert str(line["traceback"]).endswith(f"ValueError: {HIDDEN}")
    assert "planted-secret-1" not in TextFormatter().format(made)


def test_the_text_names_the_request_where_there_is_one() -> None:
    formatter = TextFormatter()
    assert formatter.format(record("hello")).endswith(" WARNING room: hello")
    with log_context(request_id="abc"):
        assert formatter.format(record("hello")).endswith(" WARNING room [abc]: hello")
        with log_context(request_ids=["x", "y", "abc"]):
            assert formatter.format(record("hello")).endswith(" WARNING room [abc +2]: hello")


def test_the_page_has_every_field() -> None:
    try:
        raise ValueError
    except ValueError as error:
        with log_context(request_ids=["a", "b"]):
            made = record("x", error=error)
            made.stack_info = "Stack (most recent call last):"
            fields = as_json(made)
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.M)
    assert sorted(rows) == sorted(fields)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Basic cGxhbnRlZDpw", "Authorization: (hidden)"),
        ("{'Authorization': 'Token planted0'}", "{'Authorization': '(hidden)'}"),
        ("sent Bearer planted.token-0 to x", "sent Bearer (hidden) to x"),
        ("X-Tiebreak-Secret: planted", "X-Tiebreak-Secret: (hidden)"),
        ("Cookie: sessionid=planted; a=b", "Cookie: (hidden)"),
        ("GET /x?token=planted&a=1 HTTP/1.1", "GET /x?(hidden) HTTP/1.1"),
        ("https://s3.example/b/k?X-Amz-Signature=planted.", "https://s3.example/b/k?(hidden)"),
        ("postgresql://user:planted@db/x", "postgresql://(hidden)@db/x"),
        ("eyJhbGciOiJIUzI1.eyJwbGFudGVkIjox.planted", "(hidden)"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, kept: str) -> None:
    assert scrubbed(text) == kept
    assert "planted" not in scrubbed(text)


@pytest.mark.parametrize(
    "text",
    [
        "Label Studio refuses the token (401).",
        "the token was exchanged; Basic settings follow",
        "/data/local-files/?d=cats/1.png: no image",
        "is this so? Yes: a=b",
        "http://127.0.0.1:9090/api/projects/1",
        "GET /api/projects/<int:project_id> is refused",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrubbed(text) == text


@given(st.text(min_size=4, max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_a_known_secret_never_stays(secret: str, before: str, after: str) -> None:
    log_secrets._hidden.clear()
    hide(secret)
    left = scrubbed(f"{before}{secret}{after}")
    for part in left.split(HIDDEN):
        assert secret not in part


def test_the_secrets_of_the_settings_are_known(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        label_studio_api_key="planted-key",
        webhook_secret="planted-hook-secret",
        database_url="postgresql+psycopg://u:planted-db-password@db/x",
    )
    hide_settings(settings)
    hide_basic("tiebreak", "planted-password")
    said = "planted-key planted-hook-secret planted-db-password planted-password"
    assert scrubbed(f"{said} dGllYnJlYWs6cGxhbnRlZC1wYXNzd29yZA==") == " ".join([HIDDEN] * 5)


def test_a_dying_process_says_so_in_json(tmp_path: Path) -> None:
    code = (
        "import threading\n"
        "from backend.logs import configure_logging\n"
        "from backend.settings import load_settings\n"
        "configure_logging(load_settings(), 'trainer')\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='heart')\n"
        "thread.start(), thread.join()\n"
        "import warnings; warnings.warn('old')\n"
        "raise RuntimeError('LABEL-STUDIO-KEY')\n"
    )
    env = {"TIEBREAK_LOG_FORMAT": "json", "LABEL_STUDIO_API_KEY": "LABEL-STUDIO-KEY"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["critical", "warning", "critical"]
    assert "thread heart ends: ZeroDivisionError" in lines[0]["message"]
    assert lines[2]["traceback"].endswith("RuntimeError: (hidden)")
