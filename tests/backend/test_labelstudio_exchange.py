"""Personal access tokens are exchanged for access tokens, with Label Studio alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from backend.errors import (
    LabelStudioError,
    LabelStudioUnauthorized,
)
from backend.labelstudio_http import Transport
from backend.labelstudio_tokens import Credentials
from tests.backend.scripted_server import Call, Server, personal_token, server

__all__ = ["server"]


class TokenServer:
    """Plays Label Studio's token exchange and knows which access token is good."""

    def __init__(self, server: Server) -> None:
        self.refreshed = 0
        self.good = ""
        self._server = server
        server.before = self._before

    def _before(self, call: Call) -> None:
        if call.path == "/api/token/refresh/":
            assert call.authorization is None
            assert call.body == {"refresh": personal_token()}
            self.refreshed += 1
            self.good = f"access{self.refreshed}"
            self._server.answers = [(200, {"access": self.good})]
        elif call.authorization == f"Bearer {self.good}":
            self._server.answers = [(200, {"id": 1})]
        else:
            self._server.answers = [(401, {"detail": "Given token not valid"})]


def test_a_personal_token_is_exchanged_and_renewed_once_on_401(server: Server) -> None:
    now = [100.0]
    tokens = TokenServer(server)
    transport = Transport(server.url, personal_token())
    transport.credentials = Credentials(
        personal_token(), transport.access_token, clock=lambda: now[0]
    )
    assert transport.get("/api/x") == {"id": 1}
    assert transport.get("/api/x") == {"id": 1}
    assert tokens.refreshed == 1
    now[0] += 5
    tokens.good = "revoked meanwhile"
    assert transport.get("/api/x") == {"id": 1}
    assert tokens.refreshed == 2
    assert [c.path for c in server.calls].count("/api/x") == 4
    transport.close()


def test_a_personal_token_that_is_refused_says_so_without_showing_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [(401, {"detail": "Token is invalid", "code": "token_not_valid"})]
    transport = Transport(server.url, personal_token())
    with pytest.raises(LabelStudioUnauthorized) as caught:
        transport.get("/api/x")
    transport.close()
    shown = f"{caught.value!r} {caught.value} {caught.value.detail} {caplog.text} {transport!r}"
    assert personal_token() not in shown
    assert len(server.calls) == 1


@pytest.mark.parametrize("answer", [{}, [], {"access": 5}, None])
def test_an_exchange_without_an_access_token_is_an_error(server: Server, answer: Any) -> None:
    server.answers = [(200, answer)]
    transport = Transport(server.url, personal_token())
    with pytest.raises(LabelStudioError):
        transport.get("/api/x")
    transport.close()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_personal_token_is_exchanged_with_nobody_else(server: Server, code: int) -> None:
    server.headers = {"Location": f"{server.url}/elsewhere/"}
    server.answers = [(code, {}), (200, {"access": "x"})]
    transport = Transport(server.url, "aaaa.bbbb.cccc")
    with pytest.raises(LabelStudioError):
        transport.get("/api/x")
    transport.close()
    assert [call.path for call in server.calls] == ["/api/token/refresh/"]
