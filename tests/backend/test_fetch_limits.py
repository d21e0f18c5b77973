from __future__ import annotations

import gzip
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.backend.peers import (
    LOOPBACK,
    PICTURE,
    Access,
    Answer,
    Handler,
    Make,
    Peer,
    for_token,
    picture,
    refused,
    status,
)


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
