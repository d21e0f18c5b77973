from __future__ import annotations

import base64
import datetime
import gzip
import io
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from backend.addresses import is_public, parse_networks
from backend.errors import ImageError, LabelStudioUnreachable, SettingsError
from backend.fetch import checked_url, origin
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.settings import Settings

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


def _serving(peer: Peer) -> Iterator[Peer]:
    thread = threading.Thread(target=peer.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield peer
    peer.shutdown()
    thread.join()
    peer.server_close()


@pytest.fixture
def studio() -> Iterator[Peer]:
    """Where Label Studio is."""
    yield from _serving(Peer())


@pytest.fixture
def other() -> Iterator[Peer]:
    """Object storage, or whoever else has an address in a task."""
    yield from _serving(Peer())


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


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., ImageFetcher]]:
    made: list[ImageFetcher] = []

    def _make(
        access: Any = None, *, networks: tuple[str, ...] = (), **options: Any
    ) -> ImageFetcher:
        extra = {k: options.pop(k) for k in ("resolver", "ssl_context") if k in options}
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


# ---- where the token goes


@pytest.mark.parametrize(
    "path", ["/data/upload/1/7e60-circle.png", "/data/local-files/?d=imgs/x%20y.png"]
)
def test_paths_are_label_studios(studio: Peer, make: Make, path: str) -> None:
    studio.answers[path.partition("?")[0]] = for_token("Token first")
    fetcher = make(Access(studio.url))
    digest = fetcher.fetch(path, 7)
    assert fetcher.copies.open(digest).getpixel((0, 0)) == (200, 30, 60)
    assert studio.paths == [path]
    assert fetcher.fetch(studio.url + path, 7) == digest
    assert studio.tokens == ["Token first"] * 2


def test_elsewhere_goes_nothing_of_ours(studio: Peer, other: Peer, make: Make) -> None:
    other.answers["/a.png"] = status(200, PICTURE, Set_Cookie="id=1; Path=/")
    fetcher = make(Access(studio.url), networks=LOOPBACK)
    for _ in range(2):
        fetcher.fetch(other.url + "/a.png", 7)
    for _, headers, _ in other.asked:
        assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
        assert headers["Host"] == f"127.0.0.1:{other.port}"
    assert other.asked[0][2] == other.asked[1][2]  # one connection for both


SIGNED = "/bucket/a%20b.png?X-Amz-Credential=AKIA%2F2026%2Fs3&X-Amz-Signature=ab%3D+~'()&x=/"


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a b.png", "gs://b/k", "azure-blob://c/k", "own://b/k"]
)
def test_storages_are_resolved_and_the_token_stays_behind(
    studio: Peer, other: Peer, make: Make, uri: str
) -> None:
    studio.answers["/tasks/7/resolve/"] = to(other.url + SIGNED)
    other.answers["/bucket/a%20b.png"] = picture
    make(Access(studio.url), networks=LOOPBACK).fetch(uri, 7)
    encoded = base64.urlsafe_b64encode(uri.encode()).decode()
    assert studio.paths == [f"/tasks/7/resolve/?fileuri={encoded}"]
    assert studio.tokens == ["Token first"]
    assert other.paths == [SIGNED]
    assert other.tokens == [None]


def test_a_resolved_path_may_give_the_bytes(studio: Peer, make: Make) -> None:
    studio.answers["/tasks/7/resolve/"] = for_token("Token first")
    make(Access(studio.url)).fetch("/tasks/7/resolve/?fileuri=abc", 7)
    assert studio.paths == ["/tasks/7/resolve/?fileuri=abc"]


def test_a_redirect_inside_label_studio_keeps_the_token(studio: Peer, make: Make) -> None:
    studio.answers["/a"] = to("/b", 301)
    studio.answers["/b"] = for_token("Token first")
    make(Access(studio.url)).fetch("/a", 7)
    assert studio.tokens == ["Token first"] * 2


def test_once_outside_the_token_does_not_come_back(studio: Peer, other: Peer, make: Make) -> None:
    other.answers["/a"] = to(studio.url + "/b")
    studio.answers["/b"] = picture
    make(Access(studio.url), networks=LOOPBACK).fetch(other.url + "/a", 7)
    assert studio.tokens == [None]
    studio.answers["/start"] = to(other.url + "/a")
    make(Access(studio.url), networks=LOOPBACK).fetch("/start", 7)
    assert studio.tokens == [None, "Token first", None]


def test_another_port_of_the_same_host_is_elsewhere(studio: Peer, other: Peer, make: Make) -> None:
    class Careless(Access):
        def is_own(self, url: str) -> bool:
            return True

    other.answers["/a"] = picture
    make(Careless(studio.url), networks=LOOPBACK).fetch(other.url + "/a", 7)
    assert other.tokens == [None]


def test_user_names_in_addresses_are_refused(studio: Peer, other: Peer, make: Make) -> None:
    fetcher = make(Access(studio.url), networks=LOOPBACK)
    host = f"127.0.0.1:{other.port}"
    for text in (f"http://ls@{host}/a", f"http://127.0.0.1:{studio.port}@{host}/a"):
        error = refused(fetcher, text, "user name", retry=False)
        assert str(error).startswith(f"http://{host}/a: ")
    studio.answers["/a"] = to(f"http://ls:pass@{host}/a")
    refused(fetcher, "/a", "user name", retry=False)
    assert other.asked == []


def test_the_origin_is_compared_without_case_or_default_port(studio: Peer, make: Make) -> None:
    own = origin(checked_url("http://ls.example"))
    for same in ("HTTP://LS.EXAMPLE/x", "http://ls.example:80/x", "http://ls.example:/x"):
        assert origin(checked_url(same)) == own
    for differs in (
        "https://ls.example",
        "http://ls.example:8080",
        "http://ls.example.evil",
        "http://ls.example.",
    ):
        assert origin(checked_url(differs)) != own
    studio.answers["/a"] = for_token("Token first")
    make(Access(f"http://localhost:{studio.port}")).fetch(f"HTTP://LocalHost:{studio.port}/a", 7)
    assert studio.tokens == ["Token first"]


def test_a_sub_path_is_not_left_with_the_token(studio: Peer, make: Make) -> None:
    fetcher = make(Access(studio.url + "/ls"))
    studio.answers["/ls/data/upload/a"] = for_token("Token first")
    for uri in ("/data/upload/a", "/ls/data/upload/a", studio.url + "/ls/data/upload/a"):
        fetcher.fetch(uri, 7)
    assert studio.tokens == ["Token first"] * 3
    studio.asked.clear()
    studio.answers["/other"] = picture
    for uri in (f"{studio.url}/ls/../other", f"{studio.url}/ls/./../other", "/../other"):
        fetcher.fetch(uri, 7)
    assert studio.paths == ["/other"] * 3
    assert studio.tokens == [None] * 3
    studio.asked.clear()
    for path in ("/ls/%2e%2e/other", "/ls/.%2E/other", "/ls/a%2f..%2f..%2fother", "/ls/..;/other"):
        refused(fetcher, studio.url + path, "leaves its folder", retry=False)
    refused(fetcher, "/ls\\..\\..\\other", "leaves its folder", retry=False)
    assert studio.asked == []


def test_an_expired_token_is_renewed_once(studio: Peer, make: Make) -> None:
    studio.answers["/a"] = for_token("Bearer second")
    access = Access(studio.url)
    make(access).fetch("/a", 7)
    assert studio.tokens == ["Token first", "Bearer second"]
    studio.answers["/b"] = for_token()
    error = refused(make(access), "/b", "refuses the token", retry=True)
    assert "LABEL_STUDIO_API_KEY" in error.mend
    assert studio.tokens[2:] == ["Bearer second"]  # a token that stays the same is not tried again
    assert access.renewals == 2


def test_label_studio_may_be_down_when_the_token_is_wanted(studio: Peer, make: Make) -> None:
    class Down(Access):
        def authorization(self, renew: bool = False) -> str:
            raise LabelStudioUnreachable("Label Studio does not answer.", mend="Start it.")

    refused(make(Down(studio.url)), "/a", "Label Studio does not answer. Start it.", retry=True)


def test_messages_carry_no_secrets(studio: Peer, other: Peer, make: Make) -> None:
    studio.answers["/tasks/7/resolve/"] = to(other.url + SIGNED)
    other.answers["/bucket/a%20b.png"] = status(403)
    fetcher = make(Access(studio.url), networks=LOOPBACK)
    error = refused(fetcher, "s3://bucket/key?versionId=SECRET", "answered 403", retry=False)
    assert str(error) == f"s3://bucket/key: 127.0.0.1:{other.port} answered 403."
    bad = Access(studio.url)
    bad.token = "Token SECRET\r\nX: y"
    error = refused(make(bad), "/a", "cannot be asked", retry=False)
    assert "SECRET" not in str(error)
    assert error.__cause__ is None
    assert studio.paths == [studio.paths[0]]


# ---- answers


@pytest.mark.parametrize(
    ("code", "retry"),
    [
        *((code, False) for code in (304, 400, 401, 403, 404, 410)),
        *((code, True) for code in (408, 425, 429, 500, 502, 503)),
    ],
)
def test_statuses_of_others(other: Peer, make: Make, code: int, retry: bool) -> None:
    other.answers["/a"] = status(code)
    refused(make(networks=LOOPBACK), other.url + "/a", f"answered {code}", retry=retry)


@pytest.mark.parametrize(
    ("code", "retry", "mend"),
    [(403, True, "LABEL_STUDIO_API_KEY"), (404, False, "no storage"), (500, True, "")],
)
def test_statuses_of_label_studio(
    studio: Peer, make: Make, code: int, retry: bool, mend: str
) -> None:
    studio.answers["/a"] = status(code)
    error = refused(make(Access(studio.url)), "/a", "Label Studio", retry=retry)
    assert mend in error.mend


@pytest.mark.parametrize(
    ("body", "kind"), [(b"<!doctype html><p>Log in", "text/html"), (b'{"a": 1}', "image/png")]
)
def test_a_web_page_is_said_to_be_one(other: Peer, make: Make, body: bytes, kind: str) -> None:
    other.answers["/a"] = status(200, body, Content_Type=kind)
    fetcher = make(networks=LOOPBACK)
    refused(fetcher, other.url + "/a", "a web page, not an image", retry=False)


def test_the_content_type_is_not_trusted(other: Peer, make: Make) -> None:
    other.answers["/a"] = status(200, PICTURE, Content_Type="text/html")
    other.answers["/empty"] = status(204)
    fetcher = make(networks=LOOPBACK)
    assert fetcher.fetch(other.url + "/a", 7) == fetcher.fetch(other.url + "/a", 8)
    refused(fetcher, other.url + "/empty", "empty", retry=False)


def test_nobody_listens(make: Make) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        fetcher = make(networks=LOOPBACK)
        refused(fetcher, f"http://127.0.0.1:{port}/a", "cannot be reached", retry=True)


def test_an_answer_that_breaks_off(other: Peer, make: Make) -> None:
    def broken(handler: Handler) -> None:
        handler.reply(200, PICTURE[:20], Content_Length=str(len(PICTURE)))
        handler.close_connection = True

    def silent(handler: Handler) -> None:
        handler.close_connection = True

    def nonsense(handler: Handler) -> None:
        handler.wfile.write(b"220 mail.example ESMTP\r\n")
        handler.close_connection = True

    other.answers.update({"/broken": broken, "/silent": silent, "/nonsense": nonsense})
    for path in other.answers:
        fetcher = make(networks=LOOPBACK)
        refused(fetcher, other.url + path, "cut off or not HTTP", retry=True)


# ---- redirects


def test_redirect_loops_end(other: Peer, make: Make) -> None:
    other.answers["/a"] = to("/b", 302)
    other.answers["/b"] = to("/a", 307)
    fetcher = make(networks=LOOPBACK, image_max_redirects=3)
    refused(fetcher, other.url + "/a", "more than 3 redirects", retry=False)
    assert other.paths == ["/a", "/b", "/a", "/b"]


def test_as_many_redirects_as_allowed(other: Peer, make: Make) -> None:
    other.answers.update({"/0": to("1", 301), "/1": to("/2?q", 308), "/2": picture})
    make(networks=LOOPBACK, image_max_redirects=2).fetch(other.url + "/0", 7)
    refused(
        make(networks=LOOPBACK, image_max_redirects=1), other.url + "/0", "more than 1", retry=False
    )


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:image/png;base64,AAAA"]
)
def test_redirects_to_other_schemes(other: Peer, make: Make, location: str) -> None:
    other.answers["/a"] = to(location)
    refused(make(networks=LOOPBACK), other.url + "/a", "are not fetched", retry=False)
    assert other.paths == ["/a"]


# ---- addresses


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),  # 93.184.216.34 by NAT64
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("198.18.0.1", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%2", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::7f00:1", False),
        ("2002:7f00:1::", False),  # 127.0.0.1 by 6to4
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def test_networks_are_checked() -> None:
    assert [str(n) for n in parse_networks(["10.0.0.1/8", "::1"])] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(SettingsError, match="TIEBREAK_IMAGE_ALLOWED_NETWORKS='minio'"):
        parse_networks(["minio"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0.0.0.0"]
)
def test_private_addresses_are_refused_however_written(
    studio: Peer, other: Peer, make: Make, host: str
) -> None:
    error = refused(
        make(Access(studio.url)),
        f"http://{host}:{other.port}/a",
        "private or reserved",
        retry=False,
    )
    assert "TIEBREAK_IMAGE_ALLOWED_NETWORKS" in error.mend
    assert other.asked == []


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"])
def test_private_ipv6_addresses_are_refused(other: Peer, make: Make, host: str) -> None:
    refused(make(), f"http://{host}:{other.port}/a", "(private or reserved|not known)", retry=False)
    assert other.asked == []


def test_redirects_to_private_addresses_are_refused(studio: Peer, other: Peer, make: Make) -> None:
    other.answers["/a"] = picture
    studio.answers["/tasks/7/resolve/"] = to(other.url + "/a")
    access = Access(studio.url)
    error = refused(make(access), "s3://bucket/key", "private or reserved", retry=False)
    assert '["127.0.0.1"]' in error.mend
    assert other.asked == []
    make(access, networks=("127.0.0.1",)).fetch("s3://bucket/key", 7)


def test_the_checked_address_is_the_one_connected_to(other: Peer, make: Make) -> None:
    found = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return next(found)

    other.answers["/a"] = status(200, PICTURE, Connection="close")
    fetcher = make(networks=("127.0.0.1/32",), resolver=rebinding)
    uri = f"http://images.example:{other.port}/a"
    fetcher.fetch(uri, 7)
    assert other.asked[0][1]["Host"] == f"images.example:{other.port}"
    refused(fetcher, uri, "images.example has the address 127.0.0.2", retry=False)
    assert asked == [("images.example", other.port)] * 2
    assert len(other.asked) == 1


def test_only_the_allowed_ones_of_several_addresses(other: Peer, make: Make) -> None:
    other.answers["/a"] = picture
    mixed = make(networks=("127.0.0.1/32",), resolver=lambda *_: ["10.0.0.1", "127.0.0.1"])
    mixed.fetch(f"http://images.example:{other.port}/a", 7)
    none = make(resolver=lambda *_: [])
    refused(none, "http://images.example/a", "the address none", retry=False)


def test_unknown_hosts(make: Make) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    refused(make(resolver=unknown), "http://images.example/a", "not known", retry=True)


def test_proxies_of_the_environment_are_not_used(
    studio: Peer, other: Peer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, studio.url)
    other.answers["/a"] = picture
    make(networks=LOOPBACK).fetch(other.url + "/a", 7)
    assert studio.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "http:///a",
        "http:/a",
        "http:a",
        "http://",
        "http://[::1/a",
        "http://h:99999/a",
        "http://h\n/a",
        "http://a b/",
        "http://" + "a" * 70_000,
        "http://xn--\udcff/a",
        "http://ÿ..example/",
    ],
)
def test_malformed_addresses(make: Make, address: str) -> None:
    with pytest.raises(ImageError):
        make().fetch(address, 7)


# ---- limits


def test_too_large_by_its_own_word(other: Peer, make: Make) -> None:
    def large(handler: Handler) -> None:
        handler.reply(200, b"x", Content_Length="1001")
        time.sleep(0.1)
        handler.close_connection = True

    other.answers["/a"] = large
    error = refused(
        make(networks=LOOPBACK, image_max_bytes=1000), other.url + "/a", "1,000 bytes", retry=False
    )
    assert "TIEBREAK_IMAGE_MAX_BYTES" in error.mend


def test_an_endless_body_is_left_early(other: Peer, make: Make) -> None:
    sent = []
    done = threading.Event()

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            for _ in range(10_000):
                handler.wfile.write(bytes(65_536))
                sent.append(65_536)
        finally:
            done.set()

    other.answers["/a"] = endless
    fetcher = make(networks=LOOPBACK, image_max_bytes=1_000_000)
    refused(fetcher, other.url + "/a", "larger than", retry=False)
    assert done.wait(20)
    assert sum(sent) < 100_000_000


def test_compressed_bodies_are_counted_decompressed(other: Peer, make: Make) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    packed = gzip.compress(PICTURE)
    other.answers["/bomb"] = status(200, bomb, Content_Encoding="gzip")
    other.answers["/gzip"] = status(200, packed, Content_Encoding="GZIP")
    other.answers["/zlib"] = status(200, zlib.compress(PICTURE), Content_Encoding="deflate")
    other.answers["/cut"] = status(200, packed[:-20], Content_Encoding="gzip")
    other.answers["/false"] = status(200, PICTURE, Content_Encoding="gzip")
    fetcher = make(networks=LOOPBACK, image_max_bytes=100_000)
    refused(fetcher, other.url + "/bomb", "larger than 100,000", retry=False)
    assert fetcher.fetch(other.url + "/gzip", 7) == fetcher.fetch(other.url + "/zlib", 7)
    refused(fetcher, other.url + "/cut", "cut off", retry=True)
    refused(fetcher, other.url + "/false", "damaged", retry=False)


def _drip(handler: Handler, body: bytes) -> None:
    for position in range(len(body)):
        handler.wfile.write(body[position : position + 1])
        time.sleep(0.05)


def _drip_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    _drip(handler, bytes(1000))


@pytest.mark.parametrize(
    "slow",
    [
        _drip_body,
        lambda handler: _drip(handler, b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200),
        lambda handler: time.sleep(3),
    ],
    ids=["body", "headers", "silence"],
)
def test_one_time_limit_for_all(other: Peer, make: Make, slow: Answer) -> None:
    other.answers["/a"] = slow
    fetcher = make(networks=LOOPBACK, image_timeout=0.4)
    started = time.monotonic()
    error = refused(fetcher, other.url + "/a", "longer than 0.4 s", retry=True)
    assert time.monotonic() - started < 10  # the drips take 50 s and more
    assert "TIEBREAK_IMAGE_TIMEOUT" in error.mend


def test_redirects_share_the_time_limit(other: Peer, make: Make) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.3)
        handler.reply(302, Location="/a")

    other.answers["/a"] = slow
    fetcher = make(networks=LOOPBACK, image_timeout=0.7, image_max_redirects=20)
    refused(fetcher, other.url + "/a", "longer than 0.7 s", retry=True)
    assert len(other.asked) <= 3


def test_many_threads(studio: Peer, other: Peer, make: Make) -> None:
    studio.answers["/a"] = for_token("Token first")
    other.answers["/a"] = picture
    fetcher = make(Access(studio.url), networks=LOOPBACK)
    uris = ["/a", other.url + "/a"] * 20
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda uri: fetcher.fetch(uri, 7), uris))
    assert len(digests) == 1
    assert set(studio.tokens) == {"Token first"}
    assert set(other.tokens) == {None}


# ---- TLS


def _certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for ``name`` with its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_tls_checks_the_name_and_not_the_address(other: Peer, make: Make, tmp_path: Path) -> None:
    pem = _certificate(tmp_path, "images.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    for peer in _serving(Peer(context)):
        peer.answers["/a"] = picture
        peer.answers["/down"] = to(other.url + "/a")
        fetcher = make(
            networks=LOOPBACK,
            resolver=lambda *_: ["127.0.0.1"],
            ssl_context=ssl.create_default_context(cafile=str(pem)),
        )
        fetcher.fetch(f"https://images.example:{peer.port}/a", 7)
        assert names == ["images.example"]
        assert peer.asked[0][1]["Host"] == f"images.example:{peer.port}"
        down = f"https://images.example:{peer.port}/down"
        refused(fetcher, down, "redirects from https to http", retry=False)
        assert other.asked == []
        wrong = f"https://other.example:{peer.port}/a"
        refused(fetcher, wrong, "cannot be reached .*certificate", retry=True)


def test_urls_keep_their_exact_query() -> None:
    assert httpx.URL("http://h" + SIGNED).raw_path.decode() == SIGNED
