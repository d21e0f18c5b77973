"""Real servers on 127.0.0.1 to fetch images from: a Label Studio, and somebody else."""

from __future__ import annotations

import functools
import io
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.decoders import Decoders
from backend.errors import ImageError
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.settings import Settings
from tests.serving import serving

LOOPBACK = ("127.0.0.0/8", "::1/128")


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 30, 60)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = _picture()
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: Peer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items()), self.client_address))
        answer = self.server.answers.get(self.path.partition("?")[0], status(404))
        try:
            answer(self)
        except OSError:
            self.close_connection = True

    def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Peer(ThreadingHTTPServer):
    """A real server on the loopback address that keeps what it was asked."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if context is not None:
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, *_: object) -> None:
        pass

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    @property
    def tokens(self) -> list[str | None]:
        return [headers.get("Authorization") for _, headers, _ in self.asked]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda handler: handler.reply(code, body, **headers)


def picture(handler: Handler) -> None:
    handler.reply(200, PICTURE)


def to(location: str, code: int = 303) -> Answer:
    return status(code, Location=location)


def for_token(*tokens: str) -> Answer:
    def answer(handler: Handler) -> None:
        good = handler.headers.get("Authorization") in tokens
        handler.reply(200, PICTURE) if good else handler.reply(401)

    return answer


@pytest.fixture
def studio() -> Iterator[Peer]:
    """Where Label Studio is."""
    with serving(Peer()) as peer:
        yield peer


@pytest.fixture
def other() -> Iterator[Peer]:
    """Object storage, or whoever else has an address in a task."""
    with serving(Peer()) as peer:
        yield peer


class Access(LabelStudio):
    """The real client, with a token whose renewal needs no exchange."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "first")
        self.token = "Token first"
        self.renewals = 0

    def authorization(self, renew: bool = False) -> str:
        if renew:
            self.renewals += 1
            self.token = "Bearer second"
        return self.token


@functools.cache
def shared_decoders() -> Decoders:
    """The same processes for all tests: their start takes longer than most of them."""
    return Decoders()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., ImageFetcher]]:
    made: list[ImageFetcher] = []

    def _make(
        access: Any = None, *, networks: tuple[str, ...] = (), **options: Any
    ) -> ImageFetcher:
        extra = {k: options.pop(k) for k in ("resolver", "ssl_context") if k in options}
        extra["decoders"] = shared_decoders()
        settings = Settings(data_dir=tmp_path, image_allowed_networks=networks, **options)
        made.append(ImageFetcher(settings, access, **extra))
        return made[-1]

    yield _make
    for fetcher in made:
        fetcher.close()


Make = Callable[..., ImageFetcher]


def refused(fetcher: ImageFetcher, uri: str, message: str, *, retry: bool) -> ImageError:
    with pytest.raises(ImageError, match=message) as caught:
        fetcher.fetch(uri, 7)
    assert caught.value.retry is retry
    return caught.value
