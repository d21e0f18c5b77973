"""The small version of ``python -m benchmarks.fuzz``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.gunicorn_worker import refusal, status_of
from benchmarks.fuzz import at_fault, fuzz
from tests.backend.raw_nonsense import FIXED, HEAD, Outcome, send
from tests.backend.real_server import RealServer, learned_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with learned_server(tmp_path_factory.mktemp("fuzzed")) as made:
        yield made


def test_nothing_breaks_it(server: RealServer, tmp_path: Path) -> None:
    found = fuzz(server, tmp_path, 100, seed=5)
    assert not at_fault(found), found
    assert found["requests"] == 100
    # The half that is nearly right is let through, or nothing behind the payloads was tried.
    assert found["statuses"][200] > 10
    assert found["statuses"][400] > 10


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"NONSENSE", 400),
        (b"GET /health HTTP/9.9", 400),
        (b"GET xxx", 414),
        (b"GET /health HTTP/1.1\r\nA: b\r\nA: b", 431),
        (b"GET /health HTTP/1.1\r\nAuthorization", 400),
        (b"GET /health HTTP/1.1\r\nExpect", 417),
        (b"POST /predict HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked", 400),
    ],
)
def test_what_is_no_http_is_told_what_is_wrong(
    server: RealServer, start: bytes, status: int
) -> None:
    data = next(each for each in FIXED if each.startswith(start))
    outcome = send(server.port, data)
    assert (outcome.status, outcome.fault) == (status, "")
    assert b"planted" not in outcome.answer
    assert b"X-Request-ID: " in outcome.answer


def test_faults_are_found() -> None:
    body = b"\r\n\r\n{}"
    faults = [
        Outcome(b"", status, b"HTTP/1.1 x" + extra).fault
        for status, extra in ((500, body), (400, body), (200, b"Traceback"), (418, body))
    ]
    assert all(faults)
    assert Outcome(b"", 0, b"").fault == ""
    assert Outcome(b"", 0, b"garbage").fault
    assert Outcome(b"", 400, refusal(400)).fault == ""
    found = {"faults": {}, "raw_faults": {}, "canary_connections": 0, "tracebacks_logged": 0}
    assert not at_fault({**found, "alive": True})
    for name, value in (("alive", False), ("canary_connections", 1), ("faults", {"a": "b"})):
        assert at_fault({**found, "alive": True, name: value})


def test_what_fails_outside_the_application_is_a_server_error() -> None:
    assert status_of(ZeroDivisionError()) == 500
    assert b"ZeroDivision" not in refusal(500)
