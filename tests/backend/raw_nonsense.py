"""Bytes that are no HTTP, or HTTP at its edges, sent over a plain socket."""

from __future__ import annotations

import random
import re
import socket
from dataclasses import dataclass

from backend.http_errors import ERRORS
from tests.backend.real_server import PASSWORD
from tests.callers import basic

SECONDS = 3.0
HEAD = (
    f"Host: x\r\nAuthorization: {basic(password=PASSWORD)['Authorization']}\r\n"
    "Content-Type: application/json\r\n"
).encode()
LONG = b"x" * 9000

FIXED = (
    b"\r\n\r\n",
    b"\x00\x01\x02\r\n\r\n",
    b"NONSENSE\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /health\r\n\r\n",
    b"GET /health HTTP/9.9\r\n\r\n",
    b"GET /health HTTP/1.1\nHost: x\n\n",
    b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET  /health  HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /he\x00alth HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://elsewhere/health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //elsewhere/health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET " + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /health HTTP/1.1\r\nX: " + LONG + b"\r\n\r\n",
    b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    b"GET /health HTTP/1.1\r\nNo colon\r\n\r\n",
    b"GET /health HTTP/1.1\r\nA b: c\r\n\r\n",
    b"GET /health HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
    b"GET /health HTTP/1.1\r\nAuthorization: Basic planted\x01\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    b"GET /health HTTP/1.1\r\nX-Request-ID: a\r\nX-Request-ID: b\r\n\r\n",
    b"GET /health HTTP/1.1\r\nExpect: tea\r\n\r\n",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: ten\r\n\r\n",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 9999999999999999999\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 50\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n",
    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\n"
    + HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /health HTTP/1.1\r\n\r\n",
)


@dataclass(frozen=True)
class Outcome:
    """What became of some bytes: the status that was answered, 0 where the connection closed."""

    sent: bytes
    status: int
    answer: bytes

    @property
    def fault(self) -> str:
        """What is wrong with the answer; empty where nothing is."""
        if self.status == 0:
            return "" if not self.answer else "an answer that is no HTTP"
        if self.status >= 500 and self.status != 501:
            return f"status {self.status}"
        if b"Traceback" in self.answer or b"gunicorn/" in self.answer:
            return "the answer shows what is inside"
        if self.status >= 400 and self.status not in ERRORS:
            return f"status {self.status} without a sentence"
        if self.status >= 400 and b'"mend": "' not in self.answer:
            return "an error without a mend"
        return ""


def send(port: int, data: bytes) -> Outcome:
    """Send bytes, say that there are no more, and read what is answered."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
    except (ConnectionError, TimeoutError):
        pass
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return Outcome(data, int(found[1]) if found else 0, answer)


def nonsense(seed: int, count: int) -> list[bytes]:
    """The fixed ones, then ``count`` of them with bytes changed, cut out, doubled or put in."""
    random_ = random.Random(seed)
    changed = [_changed(random_, random_.choice(FIXED)) for _ in range(count)]
    return [*FIXED, *changed]


def _changed(random_: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(random_.randint(1, 8)):
        start = random_.randrange(len(found) + 1)
        end = min(len(found), start + random_.randint(0, 6))
        found[start:end] = random_.choice(
            (b"", random_.randbytes(3), found[start:end] * 2, b"\r\n", b"\0", b":", b" ")
        )
    return bytes(found)
