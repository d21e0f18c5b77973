"""The doors of the real server: what is sent byte by byte, and how much of it is read."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
from collections.abc import Iterator

import pytest

from tests.callers import API_TOKEN, PASSWORD, WEBHOOK_SECRET, basic
from tests.tiebreak_process import TiebreakServer

LARGEST = 50_000
SETTINGS = {
    "LABEL_STUDIO_API_KEY": "token-of-label-studio",
    "TIEBREAK_API_TOKEN": API_TOKEN,
    "TIEBREAK_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "TIEBREAK_MAX_REQUEST_BYTES": str(LARGEST),
    "TIEBREAK_THREADS": "2",
    "TIEBREAK_REQUEST_SECONDS": "1",
}
LOG_IN = f"Authorization: {basic()['Authorization']}\r\n"
JSON = "Content-Type: application/json\r\n"
MOST_SENT = 50_000_000
"""Far beyond what the system keeps for a socket."""


class Server(TiebreakServer):
    def say(self, text: str | bytes, more: bytes = b"") -> tuple[int, bytes]:
        """Send bytes, then ``more`` again and again until there is an answer; status and body."""
        sent = text.encode() if isinstance(text, str) else text
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            sock.sendall(sent)
            count = 0
            with contextlib.suppress(OSError):
                while more and not select.select([sock], [], [], 0)[0]:
                    sock.sendall(more)
                    count += len(more)
                    assert count < MOST_SENT, "it reads without end"
            head, body = b"", b""
            with contextlib.suppress(ConnectionResetError):
                while not head.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
                    head += byte
                length = re.search(rb"(?i)content-length: (\d+)", head)
                while length and len(body) < int(length[1]) and (some := sock.recv(65_536)):
                    body += some
        return int(head.split()[1]), body

    def alive(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            return (
                self.say("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 200
            )
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"), **SETTINGS).start()
    yield made
    made.stop()


def post(path: str, headers: str, length: int | None = None) -> str:
    given = "Transfer-Encoding: chunked\r\n" if length is None else f"Content-Length: {length}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}{given}\r\n"


def test_a_body_without_a_length_is_read_to_the_limit(server: Server) -> None:
    chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    status, body = server.say(post("/webhook", LOG_IN + JSON), more=chunk)
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    # As much as is allowed would be JSON by itself, and is not taken for the whole.
    whole = b'{"project": 7}'.ljust(LARGEST) + b"x"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(whole), whole)
    assert server.say(post("/train", LOG_IN + JSON).encode() + chunked)[0] == 413
    short = b'12\r\n{"project":"7.5"} \r\n0\r\n\r\n'
    status, body = server.say(post("/train", LOG_IN + JSON).encode() + short)
    assert (status, json.loads(body)["code"]) == (400, "bad_payload")
    assert server.alive()


def test_a_length_beyond_the_limit_is_refused_before_any_of_it_is_sent(server: Server) -> None:
    status, body = server.say(post("/webhook", LOG_IN + JSON, LARGEST + 1))
    assert (status, json.loads(body)["code"]) == (413, "too_large")


def test_of_a_stranger_no_body_is_waited_for(server: Server) -> None:
    status, body = server.say(post("/predict", JSON, LARGEST))
    assert (status, json.loads(body)["code"]) == (401, "no_credentials")
    # An endless one is not read for long, and takes no thread with it.
    chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    for _ in range(3):
        assert server.say(post("/predict", JSON), more=chunk)[0] == 401
    assert server.alive()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\n" + "X-A: b\r\n" * 200, 431),
        ("GET / HTTP/1.1\r\nX-A: " + "b" * 20_000 + "\r\n", 431),
        (f"GET /{'x' * 10_000} HTTP/1.1\r\n", 414),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    ],
)
def test_huge_and_double_headers_are_refused(server: Server, head: str, status: int) -> None:
    assert server.say(f"{head}\r\n")[0] == status
    assert server.alive()


def test_who_sends_slowly_occupies_no_thread_for_long(server: Server) -> None:
    begun = [
        "GET /health HTTP/1.1\r\nHost:",
        post("/train", LOG_IN + JSON, 1000) + "{",
        post("/train", LOG_IN + JSON) + "5\r\n{",
        post("/health", JSON, 1000),
    ]
    with contextlib.ExitStack() as opened:
        slow = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            for _ in begun
        ]
        for sock, text in zip(slow, begun, strict=True):
            sock.sendall(text.encode())
        # Both threads are taken, twice over, and free again.
        assert server.alive()
        for sock in slow:
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(65_536):
                    pass
    assert "Traceback" not in server.log.read_text()


def test_nothing_of_that_is_in_the_log(server: Server) -> None:
    server.say(f"GET / HTTP/1.1\r\nHost: x\r\n{LOG_IN}Connection: close\r\n\r\n")
    server.say(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_TOKEN}\r\n\r\n")
    log = server.log.read_text()
    for secret in (
        PASSWORD,
        API_TOKEN,
        WEBHOOK_SECRET,
        "token-of-label-studio",
        LOG_IN.split()[-1],
    ):
        assert secret not in log
    assert "is refused" in log
