"""Taking turns at the queue: one request for a next task at a time, all others at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from backend.label_studio_settings.tiebreak_turns import Environ, Turns, asks_for_next_task

NEXT = {"PATH_INFO": "/api/projects/7/next", "QUERY_STRING": ""}
OTHER = {"PATH_INFO": "/api/tasks/7/annotations/", "QUERY_STRING": ""}
SECONDS = 20.0


@pytest.mark.parametrize(
    ("path", "query", "wanted"),
    [
        ("/api/projects/7/next", "", True),
        ("/api/projects/7/next/", "", True),
        ("/studio/api/projects/7/next", "", True),
        ("/api/dm/actions", "id=next_task&tabID=3&project=7", True),
        ("/api/dm/actions/", "project=7&id=next_task", True),
        ("/api/dm/actions", "id=delete_tasks&project=7", False),
        ("/api/dm/actions", "", False),
        ("/api/projects/7", "", False),
        ("/api/projects/next", "", False),
        ("/api/projects/7/next/1", "id=next_task", False),
        ("/api/tasks/7", "id=next_task", False),
    ],
)
def test_what_asks_for_a_next_task(path: str, query: str, wanted: bool) -> None:
    assert asks_for_next_task({"PATH_INFO": path, "QUERY_STRING": query}) is wanted


class Slow:
    """An application that answers when it is let go, and counts who is inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.go.acquire(timeout=SECONDS)
        with self._lock:
            self.inside -= 1
        if environ.get("fails"):
            raise RuntimeError("broken")
        return [b"done"]


def ask(turns: Turns, environ: Environ) -> threading.Thread:
    thread = threading.Thread(target=lambda: turns(environ, lambda *_: None))
    thread.start()
    return thread


def test_one_next_task_at_a_time_and_everything_else_at_once() -> None:
    slow = Slow()
    turns = Turns(slow, patience=SECONDS)
    people = [ask(turns, NEXT) for _ in range(5)]
    assert slow.entered.acquire(timeout=SECONDS)
    others = [ask(turns, OTHER) for _ in range(3)]
    for _ in others:
        assert slow.entered.acquire(timeout=SECONDS)
    # The three others came past the one whose turn it is; the four who wait are not inside.
    assert not slow.entered.acquire(timeout=0.2)
    assert slow.inside == 4
    slow.go.release(8)
    for thread in (*people, *others):
        thread.join(SECONDS)
    assert (slow.inside, slow.most) == (0, 4)


def test_who_waits_too_long_goes_ahead() -> None:
    slow = Slow()
    turns = Turns(slow, patience=0.1)
    first, second = ask(turns, NEXT), ask(turns, NEXT)
    for _ in range(2):
        assert slow.entered.acquire(timeout=SECONDS)
    assert slow.inside == 2
    slow.go.release(2)
    first.join(SECONDS)
    second.join(SECONDS)
    # Each gave back only what it had: the next one has a turn again, and others wait for it.
    third = ask(turns, NEXT)
    assert slow.entered.acquire(timeout=SECONDS)
    slow.go.release()
    third.join(SECONDS)
    assert slow.inside == 0


def test_a_failure_gives_the_turn_back() -> None:
    slow = Slow()
    turns = Turns(slow, patience=SECONDS)
    slow.go.release(2)
    with pytest.raises(RuntimeError, match="broken"):
        turns({**NEXT, "fails": True}, lambda *_: None)
    assert list(turns(NEXT, lambda *_: None)) == [b"done"]
