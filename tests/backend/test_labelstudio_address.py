"""Which URLs are Label Studio's own, and so get the token."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import SettingsError
from backend.labelstudio_address import Address, is_same_address

ROOT = Address.parse("https://label.example")
SUB = Address.parse("http://Host.example:8080/label-studio/")


@pytest.mark.parametrize(
    ("given_url", "normal"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("HTTP://Host.Example:80", "http://host.example"),
        ("https://host.example.:443/ls//", "https://host.example/ls"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        (" http://host:8080\n", "http://host:8080"),
    ],
)
def test_addresses_are_normalised(given_url: str, normal: str) -> None:
    assert Address.parse(given_url).url == normal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8080",
        "ftp://host",
        "http://",
        "http://user:secret@host",
        "http://host:port",
        "http://host/?a=b",
        "http://host/#part",
        "http://host/a/../b",
        "http://ho st",
    ],
)
def test_what_is_no_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_URL"):
        Address.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://label.example",
        "https://label.example/",
        "https://LABEL.example:443/data/upload/1/a.png",
        "https://label.example./data",
        "https://label.example/data/local-files/?d=../a%2Fb/c%20d.png",
        "https://label.example/data/upload/1/100%25.png",
    ],
)
def test_own(url: str) -> None:
    assert ROOT.owns(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/data/upload/1/a.png",
        "//label.example/data",
        "http://label.example/data",
        "https://label.example:444/data",
        "https://label.example.evil.example/data",
        "https://evil.example/label.example",
        "https://label.example@evil.example/",
        "https://user@label.example/",
        "https://label.example\\@evil.example/",
        "https://evil.example#@label.example/",
        "https://evil.example?@label.example/",
        "https://label.example\t.evil.example/",
        "https:label.example/",
        "https://label.example:https/",
        "https://label%2eexample/",
        "https://[label.example]/",
        "file://label.example/etc/passwd",
        "https://label.example/a\nb",
    ],
)
def test_another_origin_or_an_ambiguous_one_is_not_own(url: str) -> None:
    assert not ROOT.owns(url)


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/label-studio", True),
        ("/label-studio/", True),
        ("/label-studio/data/upload/1/a.png", True),
        ("/label%2Dstudio/data", True),
        ("/label-studio?x=/..", True),
        ("/", False),
        ("/label-studio2/data", False),
        ("/other/label-studio/data", False),
        ("//label-studio/data", False),
        ("/label-studio/../admin", False),
        ("/label-studio/%2e%2e/admin", False),
        ("/label-studio/%252e%252e/admin", False),
        ("/label-studio/.%2e/admin", False),
        ("/label-studio/a/./b", False),
        ("/label-studio/..%2fadmin", False),
        ("/label-studio/..%5cadmin", False),
        ("/label-studio/%25252525252e%252e/admin", False),
        ("/label-studio%2f..%2fadmin", False),
        ("/label-studio/a%00b", False),
        ("/Label-Studio/data", False),
    ],
)
def test_sub_path(path: str, own: bool) -> None:
    assert SUB.owns(f"http://host.example:8080{path}") is own


@given(st.text(max_size=60) | st.from_regex(r"https?://[\w.@:/%#?\\-]{0,40}", fullmatch=True))
def test_httpx_would_send_an_own_url_to_that_host(url: str) -> None:
    assert isinstance(ROOT.owns(url), bool)
    if ROOT.owns(url):
        sent = httpx.URL(url)
        assert (sent.scheme, sent.host.rstrip("."), sent.port) == ("https", "label.example", None)


@given(st.text(max_size=40))
def test_every_path_below_is_judged_as_httpx_sends_it(path: str) -> None:
    url = f"{SUB.url}/{path}"
    if SUB.owns(url):
        sent = httpx.URL(url)
        assert sent.host == "host.example"
        assert sent.port == 8080
        assert sent.path.startswith("/label-studio/")
        assert "/../" not in f"{sent.path}/"


def test_resolve_url_carries_the_uri_for_label_studio() -> None:
    url = SUB.resolve_url(7, "s3://bucket/ä b?.png")
    prefix, _, encoded = url.partition("?fileuri=")
    assert prefix == "http://host.example:8080/label-studio/tasks/7/resolve/"
    assert urlsafe_b64decode(encoded).decode() == "s3://bucket/ä b?.png"
    assert SUB.owns(url)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://localhost:8080", True),
        ("http://10.0.0.1:8080", False),
        ("http://label.example", False),
    ],
)
def test_loopback(url: str, loopback: bool) -> None:
    assert Address.parse(url).is_loopback is loopback


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://a/webhook", "http://A:80/webhook/", True),
        ("https://a/webhook", "https://a:443/webhook", True),
        ("http://127.0.0.1:9090/webhook", "http://localhost:9090/webhook", True),
        ("http://[::1]:9090/webhook", "http://localhost:9090/webhook", True),
        ("http://127.0.0.1:9090/webhook", "http://127.0.0.2:9090/webhook", False),
        ("http://a/webhook", "https://a/webhook", False),
        ("http://a/webhook", "http://a.evil/webhook", False),
        ("http://a/webhook", "http://a/webhook?x=1", False),
        ("http://a/webhook", "http://b@a/webhook", False),
        ("http://a/x/webhook", "http://a/webhook", False),
        ("http://[/webhook", "http://[/webhook", False),
        ("http://a:x/webhook", "http://a:x/webhook", False),
        ("http://b:c@a/webhook", "http://b:c@A:80/webhook", True),
        ("http://a./webhook", "http://a/webhook", True),
        ("http://a\\@b/webhook", "http://a\\@b/webhook", False),
        ("ftp://a/webhook", "ftp://a/webhook", False),
    ],
)
def test_same_address(one: str, other: str, same: bool) -> None:
    assert is_same_address(one, other) == same
