from __future__ import annotations

import socket

import pytest

from tests.backend.peers import (
    LOOPBACK,
    PICTURE,
    Access,
    Handler,
    Make,
    Peer,
    picture,
    refused,
    status,
    to,
)


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
