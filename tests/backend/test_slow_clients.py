from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from gunicorn.http.errors import NoMoreData

from backend.slow_clients import HurriedSocket


@pytest.fixture
def pair() -> Iterator[tuple[HurriedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield HurriedSocket(ours), theirs


def test_the_deadline_is_for_all_of_a_request(pair: tuple[HurriedSocket, socket.socket]) -> None:
    ours, theirs = pair
    received: list[bytes] = []

    def drip() -> None:
        while True:
            theirs.sendall(b"x")
            received.append(ours.recv(1))
            time.sleep(0.05)

    ours.expect(0.3)
    with pytest.raises(NoMoreData):
        drip()
    assert len(received) <= 7
    # The next request has a time of its own, and nothing is left behind on the socket.
    ours.expect(5)
    theirs.sendall(b"next")
    assert ours.recv(10)[-4:] == b"next"
    assert ours.gettimeout() is None


def test_a_silent_client_is_given_up(pair: tuple[HurriedSocket, socket.socket]) -> None:
    ours, _ = pair
    ours.expect(0.05)
    for _ in range(2):
        with pytest.raises(NoMoreData):
            ours.recv(1)


def test_a_shorter_timeout_of_somebody_else_ends_as_they_expect(
    pair: tuple[HurriedSocket, socket.socket],
) -> None:
    ours, _ = pair
    ours.expect(60)
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    assert ours.gettimeout() == 0.01


def test_who_does_not_read_the_answer_is_gone(pair: tuple[HurriedSocket, socket.socket]) -> None:
    ours, theirs = pair
    ours.expect(0.1)
    with pytest.raises(BrokenPipeError):
        ours.sendall(b"x" * 10_000_000)
    assert theirs.recv(1) == b"x"
    assert ours.gettimeout() is None
