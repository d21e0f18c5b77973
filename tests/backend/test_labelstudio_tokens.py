"""The two kinds of tokens: what is sent, when it is renewed, and that it is never shown."""

from __future__ import annotations

import base64
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import LabelStudioUnauthorized
from backend.labelstudio_tokens import Credentials, access_lifetime

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(**claims: object) -> str:
    parts = ({"alg": "HS256"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode() for p in parts]
    return ".".join([*(e.rstrip("=") for e in encoded), "signature"])


PERSONAL = jwt(token_type="refresh", exp=9_999_999_999)


class Exchange:
    """Hands out numbered access tokens of ``lifetime`` seconds."""

    def __init__(self, lifetime: float = 300.0) -> None:
        self.lifetime = lifetime
        self.given: list[str] = []

    def __call__(self, personal: str) -> str:
        assert personal == PERSONAL
        self.given.append(jwt(iat=5_000, exp=5_000 + self.lifetime, n=len(self.given)))
        return self.given[-1]


def test_legacy_token_is_sent_as_it_is() -> None:
    credentials = Credentials(f" {LEGACY}\n", Exchange())
    assert credentials.authorization() == f"Token {LEGACY}"
    assert credentials.authorization(renew=True) == f"Token {LEGACY}"
    assert not credentials.renewable


def test_personal_token_is_exchanged_and_renewed_before_it_ends() -> None:
    now = [1000.0]
    exchange = Exchange(lifetime=300)
    credentials = Credentials(PERSONAL, exchange, clock=lambda: now[0])
    assert credentials.renewable
    first = credentials.authorization()
    assert first == f"Bearer {exchange.given[0]}"
    now[0] += 269.0
    assert credentials.authorization() == first
    now[0] += 1.0
    assert credentials.authorization() == f"Bearer {exchange.given[1]}"
    assert len(exchange.given) == 2


def test_a_refused_access_token_is_replaced_once_for_all_who_ask() -> None:
    now = [0.0]
    exchange = Exchange()
    credentials = Credentials(PERSONAL, exchange, clock=lambda: now[0])
    credentials.authorization()
    now[0] += 10.0
    renewed = {credentials.authorization(renew=True) for _ in range(3)}
    assert renewed == {f"Bearer {exchange.given[1]}"}


def test_threads_share_one_exchange() -> None:
    exchange = Exchange()
    credentials = Credentials(PERSONAL, exchange)
    seen: list[str] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        seen.append(credentials.authorization())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [f"Bearer {exchange.given[0]}"] * 8
    assert len(exchange.given) == 1


@pytest.mark.parametrize("token", ["", "  ", "two words", "käse", "line\nbreak"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(LabelStudioUnauthorized, match="LABEL_STUDIO_API_KEY") as caught:
        Credentials(token, Exchange())
    assert not token.strip() or token not in str(caught.value)


def test_the_token_is_not_in_the_representation() -> None:
    for token in (LEGACY, PERSONAL):
        credentials = Credentials(token, Exchange())
        credentials.authorization()
        assert token not in repr(credentials)


@pytest.mark.parametrize(
    ("token", "seconds"),
    [
        (jwt(iat=100, exp=400), 300.0),
        (jwt(iat=100, exp=160), 60.0),
        (jwt(exp=400), 300.0),
        (jwt(iat=400, exp=100), 300.0),
        (jwt(iat="x", exp="y"), 300.0),
        ("opaque", 300.0),
        ("a.%%.c", 300.0),
    ],
)
def test_lifetime(token: str, seconds: float) -> None:
    assert access_lifetime(token) == seconds


@given(st.text(max_size=50) | st.builds("a.{}.c".format, st.text("abcXYZ012-_=", max_size=30)))
def test_every_text_has_a_lifetime(token: str) -> None:
    assert access_lifetime(token) > 0
