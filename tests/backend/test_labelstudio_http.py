"""How calls to Label Studio behave when it is down, slow, wrong or refuses, over real sockets."""

from __future__ import annotations

import logging
import socket
import threading
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from backend.errors import (
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioUnauthorized,
    LabelStudioUnreachable,
)
from backend.labelstudio import LabelStudio
from backend.labelstudio_http import Transport
from tests.backend.scripted_server import PAUSES, TOKEN, Call, Server, handler_of, http, server

__all__ = ["http", "server"]


def test_a_call_carries_the_token_and_gives_json(server: Server, http: Transport) -> None:
    server.answers = [(200, {"id": 3})]
    assert http.get("/api/projects/3", {"include": "id,title"}) == {"id": 3}
    [call] = server.calls
    assert call.path == "/api/projects/3?include=id%2Ctitle"
    assert call.authorization == f"Token {TOKEN}"


def test_an_empty_answer_is_none(server: Server, http: Transport) -> None:
    server.answers = [(200, "")]
    assert http.call("DELETE", "/api/ml/1") is None


def test_a_sub_path_is_kept(server: Server) -> None:
    transport = Transport(f"{server.url}/label-studio/", TOKEN)
    transport.get("/api/version")
    transport.close()
    assert server.calls[0].path == "/label-studio/api/version"


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("trouble", [0, 500, 502, 503])
def test_what_may_be_repeated_is_tried_three_times(
    server: Server, http: Transport, method: str, trouble: int
) -> None:
    server.answers = [(trouble, {}), (trouble, {}), (200, {"ok": True})]
    assert http.call(method, "/api/x") == {"ok": True}
    assert len(server.calls) == 3


@pytest.mark.parametrize("trouble", [0, 500, 502, 503, 504])
def test_a_post_that_may_have_arrived_is_never_repeated(
    server: Server, http: Transport, trouble: int
) -> None:
    server.answers = [(trouble, {}), (200, {})]
    with pytest.raises(LabelStudioError):
        http.call("POST", "/api/projects/1/import/predictions", json=[])
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, LabelStudioError),
        (401, LabelStudioUnauthorized),
        (403, LabelStudioUnauthorized),
        (404, LabelStudioNotFound),
        (409, LabelStudioError),
        (500, LabelStudioError),
        (502, LabelStudioUnreachable),
        (503, LabelStudioUnreachable),
        (504, LabelStudioUnreachable),
    ],
)
def test_each_status_has_its_error(
    server: Server, http: Transport, status: int, kind: type[LabelStudioError]
) -> None:
    server.answers = [(status, {"detail": "the reason"})]
    with pytest.raises(LabelStudioError) as caught:
        http.get("/api/x")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.detail) == (status, "the reason")
    assert caught.value.message.endswith(": the reason.")
    for words in ("LABEL_STUDIO_API_KEY", "restart `tiebreak serve` and `tiebreak trainer`"):
        assert (words in caught.value.mend) == (status in (401, 403))


@pytest.mark.parametrize(
    ("detail", "end"),
    [
        ("Token is blacklisted", " /api/x: Token is blacklisted. Set LABEL_STUDIO_API_KEY"),
        ("Invalid token.", " /api/x: Invalid token. Set LABEL_STUDIO_API_KEY"),
        ("", " to GET /api/x. Set LABEL_STUDIO_API_KEY"),
    ],
)
def test_the_mend_follows_a_whole_sentence(
    server: Server, http: Transport, detail: str, end: str
) -> None:
    server.answers = [(401, {"detail": detail})]
    with pytest.raises(LabelStudioUnauthorized) as caught:
        http.get("/api/x")
    assert end in str(caught.value)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "No."}, "No."),
        (
            {"validation_errors": {"title": ["Too short.", "Odd."]}},
            "title: Too short.; title: Odd.",
        ),
        ({"detail": "Validation error", "validation_errors": {"non_field_errors": ["X"]}}, "X"),
        ({"detail": "Error", "validation_errors": {}}, "Error"),
        ({"title": ["Too short."]}, "title: Too short."),
        ([1], "[1]"),
        ("<html>a long page</html>", "(a web page)"),
        (None, "None"),
    ],
)
def test_what_label_studio_says_is_passed_on(
    server: Server, http: Transport, body: Any, detail: str
) -> None:
    server.answers = [(400, body)]
    with pytest.raises(LabelStudioError) as caught:
        http.get("/api/x")
    assert caught.value.detail == detail


def test_a_long_reason_is_cut_in_the_message_only(server: Server, http: Transport) -> None:
    server.answers = [(400, {"detail": "x" * 5000})]
    with pytest.raises(LabelStudioError) as caught:
        http.get("/api/x")
    assert len(caught.value.message) < 500
    assert len(caught.value.detail) == 5000


def test_a_page_where_data_should_be_names_the_address(server: Server, http: Transport) -> None:
    server.answers = [(200, "<!doctype html><title>Another program</title>")]
    with pytest.raises(LabelStudioError) as caught:
        http.get("/api/version")
    assert server.url in caught.value.message
    assert "LABEL_STUDIO_URL" in caught.value.mend
    server.answers = [(404, "<!doctype html>")]
    with pytest.raises(LabelStudioNotFound) as missing:
        http.get("/api/version")
    assert "sub-path" in missing.value.mend


@pytest.mark.parametrize("answer", [[], {"id": "x"}, {"id": 1}, None, "text"])
def test_json_of_an_unknown_form_is_an_error_of_ours(server: Server, answer: Any) -> None:
    server.answers = [(200, answer)]
    with LabelStudio(server.url, TOKEN) as client, pytest.raises(LabelStudioError):
        client.project(1)


def test_nothing_listens(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    caplog.set_level(logging.DEBUG)
    transport = Transport(f"http://127.0.0.1:{port}", TOKEN, back_off=PAUSES)
    for method in ("GET", "POST"):
        with pytest.raises(LabelStudioUnreachable) as caught:
            transport.call(method, "/api/version")
        assert f"127.0.0.1:{port}" in caught.value.message
        assert caught.value.status == 0
    transport.close()
    assert caplog.text.count("trying again") == 4


def test_a_server_that_comes_up_meanwhile_gets_the_post_once(server: Server) -> None:
    """A connection that is refused sent nothing, so even a POST is tried again."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    late: list[ThreadingHTTPServer] = []

    def come_up() -> None:
        late.append(ThreadingHTTPServer(("127.0.0.1", port), handler_of(server)))
        late[0].serve_forever(0.02)

    server.answers = [(201, {"created": 1})]
    transport = Transport(f"http://127.0.0.1:{port}", TOKEN, back_off=(0.5, 5.0))
    timer = threading.Timer(0.1, come_up)
    timer.start()
    try:
        assert transport.call("POST", "/api/x", json=[1]) == {"created": 1}
    finally:
        transport.close()
        late[0].shutdown()
        timer.join()
        late[0].server_close()
    assert [call.body for call in server.calls] == [[1]]


def test_slow_answers_end_at_the_time_limit_and_are_not_repeated(server: Server) -> None:
    release = threading.Event()

    def wait(_: Call) -> None:
        release.wait(10)

    server.before = wait
    transport = Transport(server.url, TOKEN, timeout=0.2)
    with pytest.raises(LabelStudioUnreachable, match=r"did not answer within 0\.2 s"):
        transport.get("/api/version")
    release.set()
    transport.close()
    assert len(server.calls) == 1


def test_proxies_of_the_environment_are_not_asked_for_this_machine(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with LabelStudio(server.url, TOKEN) as client:
        server.answers = [(200, {"release": "1.23.2"})]
        assert client.version() == "1.23.2"


def test_nothing_shows_the_token(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [(500, {"detail": "broken"})]
    with LabelStudio(server.url, TOKEN) as client:
        with pytest.raises(LabelStudioError) as caught:
            client.version()
        shown = f"{client!r} {client._http!r} {client._http.credentials!r} {caplog.text}"
    assert TOKEN not in f"{shown} {caught.value!r} {caught.value}"
    assert caught.value.__cause__ is None
