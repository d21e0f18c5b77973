"""A server that says what a test tells it to, over real sockets, and a transport that asks it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backend.labelstudio_http import Transport
from tests.serving import serving

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


def handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    """What answers for it."""

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
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler_of(script))) as http:
        script.url = f"http://127.0.0.1:{http.server_port}"
        yield script


@pytest.fixture
def http(server: Server) -> Iterator[Transport]:
    transport = Transport(server.url, TOKEN, timeout=5, back_off=PAUSES)
    yield transport
    transport.close()


def personal_token() -> str:
    claims = base64.urlsafe_b64encode(b'{"token_type":"refresh"}').decode().rstrip("=")
    return f"header.{claims}.signature"
