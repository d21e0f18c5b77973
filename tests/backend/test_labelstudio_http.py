"""How calls to Label Studio behave when it is down, slow, wrong or refuses, over real sockets."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
from backend.labelstudio_tokens import Credentials

PAUSES = (0.01, 0.02)
TOKEN = "0123456789abcdef0123456789abcdef01234567"
Answer = tuple[int, Any]


@dataclass
class Call:
    method: str
    path: str
    authorization: str | None
    body: Any


@dataclass
class Server:
    """A scripted server: ``answers`` in turn, the last one for ever."""

    answers: list[Answer] = field(default_factory=lambda: [(200, {})])
    calls: list[Call] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[Call], None] | None = None
    url: str = ""

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        if self.before:
            self.before(call)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            authorization = self.headers.get("Authorization")
            parsed = json.loads(body) if body else None
            status, given = server.answer(Call(self.command, self.path, authorization, parsed))
            if status == 0:
                self.close_connection = True
                return
            html = isinstance(given, str)
            sent = given.encode() if html else json.dumps(given).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if html else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    script = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(script)) as http:
        script.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield script
        http.shutdown()
        thread.join()


@pytest.fixture
def http(server: Server) -> Iterator[Transport]:
    transport = Transport(server.url, TOKEN, timeout=5, back_off=PAUSES)
    yield transport
    transport.close()


def personal_token() -> str:
    claims = base64.urlsafe_b64encode(b'{"token_type":"refresh"}').decode().rstrip("=")
    return f"header.{claims}.signature"


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
    assert "the reason" in caught.value.message
    assert ("LABEL_STUDIO_API_KEY" in caught.value.mend) == (status in (401, 403))


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
        late.append(ThreadingHTTPServer(("127.0.0.1", port), _handler(server)))
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


class TokenServer:
    """Plays Label Studio's token exchange and knows which access token is good."""

    def __init__(self, server: Server) -> None:
        self.refreshed = 0
        self.good = ""
        self._server = server
        server.before = self._before

    def _before(self, call: Call) -> None:
        if call.path == "/api/token/refresh/":
            assert call.authorization is None
            assert call.body == {"refresh": personal_token()}
            self.refreshed += 1
            self.good = f"access{self.refreshed}"
            self._server.answers = [(200, {"access": self.good})]
        elif call.authorization == f"Bearer {self.good}":
            self._server.answers = [(200, {"id": 1})]
        else:
            self._server.answers = [(401, {"detail": "Given token not valid"})]


def test_a_personal_token_is_exchanged_and_renewed_once_on_401(server: Server) -> None:
    now = [100.0]
    tokens = TokenServer(server)
    transport = Transport(server.url, personal_token())
    transport.credentials = Credentials(
        personal_token(), transport.access_token, clock=lambda: now[0]
    )
    assert transport.get("/api/x") == {"id": 1}
    assert transport.get("/api/x") == {"id": 1}
    assert tokens.refreshed == 1
    now[0] += 5
    tokens.good = "revoked meanwhile"
    assert transport.get("/api/x") == {"id": 1}
    assert tokens.refreshed == 2
    assert [c.path for c in server.calls].count("/api/x") == 4
    transport.close()


def test_a_personal_token_that_is_refused_says_so_without_showing_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [(401, {"detail": "Token is invalid", "code": "token_not_valid"})]
    transport = Transport(server.url, personal_token())
    with pytest.raises(LabelStudioUnauthorized) as caught:
        transport.get("/api/x")
    transport.close()
    shown = f"{caught.value!r} {caught.value} {caught.value.detail} {caplog.text} {transport!r}"
    assert personal_token() not in shown
    assert len(server.calls) == 1


@pytest.mark.parametrize("answer", [{}, [], {"access": 5}, None])
def test_an_exchange_without_an_access_token_is_an_error(server: Server, answer: Any) -> None:
    server.answers = [(200, answer)]
    transport = Transport(server.url, personal_token())
    with pytest.raises(LabelStudioError):
        transport.get("/api/x")
    transport.close()


def test_redirects_within_label_studio_are_followed_by_gets(
    server: Server, http: Transport
) -> None:
    server.headers = {"Location": "/api/there?page=2"}
    server.answers = [(301, {}), (200, [1])]
    assert http.get("/api/here", {"page": 1}) == [1]
    assert [c.path for c in server.calls] == ["/api/here?page=1", "/api/there?page=2"]
    assert server.calls[1].authorization == f"Token {TOKEN}"
    server.answers = [(302, {})]
    with pytest.raises(LabelStudioError, match="circle"):
        http.get("/api/here")
    with pytest.raises(LabelStudioError, match="redirects to"):
        http.call("POST", "/api/here", json={})


@pytest.mark.parametrize("location", ["http://localhost:{port}/api/x", "//localhost:{port}/x"])
def test_the_token_does_not_follow_a_redirect_elsewhere(
    server: Server, http: Transport, location: str
) -> None:
    port = server.url.rpartition(":")[2]
    server.headers = {"Location": location.format(port=port)}
    server.answers = [(302, {}), (200, {})]
    with pytest.raises(LabelStudioError) as caught:
        http.get("/api/x")
    assert "localhost" in caught.value.message
    assert "LABEL_STUDIO_URL" in caught.value.mend
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://h:99999/", "redirects to http://h:99999/,"),
        ("file:///etc/passwd", "redirects to file:"),
        ("http://u:hidden@localhost/a?b=hidden", "redirects to http://localhost/a,"),
    ],
)
def test_odd_redirects(server: Server, http: Transport, location: str, said: str) -> None:
    server.headers = {"Location": location}
    server.answers = [(302, {}), (200, {})]
    with pytest.raises(LabelStudioError, match=said) as caught:
        http.get("/api/x")
    assert "hidden" not in str(caught.value)
    assert len(server.calls) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_personal_token_is_exchanged_with_nobody_else(server: Server, code: int) -> None:
    server.headers = {"Location": f"{server.url}/elsewhere/"}
    server.answers = [(code, {}), (200, {"access": "x"})]
    transport = Transport(server.url, "aaaa.bbbb.cccc")
    with pytest.raises(LabelStudioError):
        transport.get("/api/x")
    transport.close()
    assert [call.path for call in server.calls] == ["/api/token/refresh/"]


def test_a_redirect_out_of_the_sub_path_is_not_followed(server: Server) -> None:
    server.headers = {"Location": "/other/api/x"}
    server.answers = [(302, {}), (200, {})]
    transport = Transport(f"{server.url}/label-studio", TOKEN)
    with pytest.raises(LabelStudioError, match="redirects to"):
        transport.get("/api/x")
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
