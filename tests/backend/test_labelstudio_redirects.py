"""Where calls to Label Studio may be led, and what goes along."""

from __future__ import annotations

import pytest

from backend.errors import (
    LabelStudioError,
)
from backend.labelstudio_http import Transport
from tests.backend.scripted_server import TOKEN, Server, http, server

__all__ = ["http", "server"]


def test_redirects_within_label_studio_are_followed_by_gets(
    server: Server, http: Transport
) -> None:
    server.headers = {"Location": "/api/there?page=2"}
    server.answers = [(301, {}), (200, [1])]
    assert http.get("/api/here", {"page": 1}) == [1]
    assert [c.path for c in server.calls] == ["/api/here?page=1", "/api/there?page=2"]
    assert server.calls[1].authorization == f"Token {TOKEN}"
    server.answers = [(302, {})]
    with pytest.raises(LabelStudioError, match="circle"):
        http.get("/api/here")
    with pytest.raises(LabelStudioError, match="redirects to"):
        http.call("POST", "/api/here", json={})


@pytest.mark.parametrize("location", ["http://localhost:{port}/api/x", "//localhost:{port}/x"])
def test_the_token_does_not_follow_a_redirect_elsewhere(
    server: Server, http: Transport, location: str
) -> None:
    port = server.url.rpartition(":")[2]
    server.headers = {"Location": location.format(port=port)}
    server.answers = [(302, {}), (200, {})]
    with pytest.raises(LabelStudioError) as caught:
        http.get("/api/x")
    assert "localhost" in caught.value.message
    assert "LABEL_STUDIO_URL" in caught.value.mend
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://h:99999/", "redirects to http://h:99999/,"),
        ("file:///etc/passwd", "redirects to file:"),
        ("http://u:hidden@localhost/a?b=hidden", "redirects to http://localhost/a,"),
    ],
)
def test_odd_redirects(server: Server, http: Transport, location: str, said: str) -> None:
    server.headers = {"Location": location}
    server.answers = [(302, {}), (200, {})]
    with pytest.raises(LabelStudioError, match=said) as caught:
        http.get("/api/x")
    assert "hidden" not in str(caught.value)
    assert len(server.calls) == 1


def test_a_redirect_out_of_the_sub_path_is_not_followed(server: Server) -> None:
    server.headers = {"Location": "/other/api/x"}
    server.answers = [(302, {}), (200, {})]
    transport = Transport(f"{server.url}/label-studio", TOKEN)
    with pytest.raises(LabelStudioError, match="redirects to"):
        transport.get("/api/x")
    transport.close()
    assert len(server.calls) == 1
