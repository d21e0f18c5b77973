"""Many callers of ``/predict`` at once, whose answers are held to what each version says."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from backend.versions import promote
from tests.backend.served_app import client_of
from tests.backend.served_project import Json, ServedProject, ServerProcess

Answer = tuple[str, tuple[tuple[float, str, float], ...]]
"""Version, and of each task the place, the class and its probability."""


@dataclass
class Outcome:
    """What callers met: answers by version, times, and whatever went wrong."""

    answered: int = 0
    refused: int = 0
    """Connections that nobody took: no server listened."""
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Answers whose version and numbers do not belong together."""
    seconds: list[float] = field(default_factory=list)
    asked: list[tuple[float, str]] = field(default_factory=list)
    """When each answered request was sent, and the version that answered it."""


def read_answer(answer: Json) -> Answer:
    """Version and numbers of an answer; ValueError where it is of several versions."""
    [version] = {entry["model_version"] for entry in answer["results"]}
    return version, tuple(
        (
            float(entry["score"]),
            str(entry["result"][0]["value"]["choices"][0]),
            float(entry["result"][0]["score"]),
        )
        for entry in answer["results"]
    )


def expected_answers(
    project: ServedProject, versions: Sequence[int], tasks: Sequence[int]
) -> dict[str, Answer]:
    """Name of the order → its answer, asked for in this process while that version serves."""
    found = {}
    with client_of(project.settings) as client:
        for number in versions:
            promote(project.store, project.settings, 1, number)
            answer = read_answer(client.post("/predict", json=project.body(tasks)).get_json())
            found[answer[0]] = answer
    assert len(set(found.values())) == len(versions), "two versions say the same"
    return found


class Callers:
    """``count`` callers that ask until they are stopped, or have asked ``most`` times in all.

    ``fresh``: each request has a connection of its own, as Label Studio's have.
    """

    def __init__(
        self,
        server: ServerProcess,
        body: Json,
        expected: Mapping[str, Answer],
        *,
        count: int,
        most: int | None = None,
        fresh: bool = False,
    ) -> None:
        self.outcome = Outcome()
        self._server, self._body, self._expected = server, body, expected
        self._left = most
        self._fresh = fresh
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until they have ended."""
        for thread in self._threads:
            thread.join()

    @property
    def done(self) -> int:
        """How many requests have been sent and have ended."""
        with self._lock:
            return self.outcome.answered + self.outcome.refused + len(self.outcome.failures)

    def _may_ask(self) -> bool:
        with self._lock:
            if self._stop.is_set() or self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True

    def _call(self) -> None:
        client = self._server.client()
        while self._may_ask():
            self._ask(client)
            if self._fresh:
                client.close()
                client = self._server.client()
        client.close()

    def _ask(self, client: httpx.Client) -> None:
        began = time.time()
        try:
            response = client.post("/predict", json=self._body).raise_for_status()
            answer = read_answer(response.json())
        except httpx.ConnectError:
            with self._lock:
                self.outcome.refused += 1
            time.sleep(0.02)
            return
        except (httpx.HTTPError, LookupError, ValueError) as error:
            with self._lock:
                self.outcome.failures.append(repr(error))
            return
        with self._lock:
            self.outcome.answered += 1
            self.outcome.seconds.append(time.time() - began)
            self.outcome.asked.append((began, answer[0]))
            if self._expected.get(answer[0]) != answer:
                self.outcome.wrong.append(f"{answer[0]} with the numbers of another version")
