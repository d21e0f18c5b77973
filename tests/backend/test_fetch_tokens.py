from __future__ import annotations

import base64

import httpx
import pytest

from backend.errors import LabelStudioUnreachable
from backend.fetch import checked_url, origin
from tests.backend.peers import (
    LOOPBACK,
    PICTURE,
    Access,
    Make,
    Peer,
    for_token,
    picture,
    refused,
    status,
    to,
)


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


def test_urls_keep_their_exact_query() -> None:
    assert httpx.URL("http://h" + SIGNED).raw_path.decode() == SIGNED
