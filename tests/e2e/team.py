"""Several people who label one project at once, and how far down the queue their tasks stood."""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from tests.e2e.label_studio_person import Json, Person

AGAIN_SECONDS = 0.5
NEVER = float("inf")
Found = TypeVar("Found")
Order = Mapping[int, float]
"""Task → score of one prediction version; the lowest score comes first."""


@dataclass(frozen=True)
class Serving:
    """A task that one person was given and then submitted; times are seconds of one clock.

    ``version`` is the prediction version that came with the task, ``way`` Label Studio's own words
    for how it chose it, ``wanted`` how many people are to label it.
    """

    person: int
    task: int
    version: str
    way: str
    wanted: int
    asked: float
    served: float
    submitted: float
    """When Label Studio had confirmed the annotation."""


@dataclass
class Record:
    """What happened while a team labelled."""

    servings: list[Serving] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Refused requests; each was sent again."""
    turned_away: int = 0
    """How many people were told that there is nothing left for them, and stopped."""


class Team:
    """People who ask, look and submit, all at once.

    ``ask`` gets a person's next task, None when there is none; ``answer`` is the choice for a task.
    """

    def __init__(
        self,
        people: Sequence[Person],
        ask: Callable[[Person], Json | None],
        answer: Callable[[Json], str],
    ) -> None:
        self._people = people
        self._ask = ask
        self._answer = answer
        self._lock = threading.Lock()
        self._left = 0
        self._record = Record()

    def label(self, submits: int, look: tuple[float, float] = (0, 0), seed: int = 0) -> Record:
        """Submit that many tasks in all; each is looked at for a time between the two in ``look``.

        The servings come in the order in which they arrived.
        """
        self._left, self._record = submits, Record()
        draws = [random.Random(f"{seed} {number}") for number in range(len(self._people))]
        threads = [
            threading.Thread(target=self._work, args=(number, look, draw))
            for number, draw in enumerate(draws)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._record.servings.sort(key=lambda serving: serving.served)
        return self._record

    def _work(self, number: int, look: tuple[float, float], draw: random.Random) -> None:
        person = self._people[number]
        time.sleep(draw.uniform(0, look[1]))
        while self._take_one():
            asked = time.monotonic()
            task = self._insist(lambda: self._ask(person))
            served = time.monotonic()
            if task is None:
                with self._lock:
                    self._left += 1
                    self._record.turned_away += 1
                return
            time.sleep(draw.uniform(*look))
            self._submit(person, task)
            done = _serving(number, task, asked, served, time.monotonic())
            with self._lock:
                self._record.servings.append(done)

    def _take_one(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _submit(self, person: Person, task: Json) -> None:
        choice = self._answer(task)
        self._insist(lambda: person.submit(int(task["id"]), label=choice))

    def _insist(self, call: Callable[[], Found]) -> Found:
        while True:
            try:
                return call()
            except httpx.HTTPStatusError as error:
                with self._lock:
                    self._record.errors.append(str(error))
            time.sleep(AGAIN_SECONDS)


def places(servings: Sequence[Serving], orders: Mapping[str, Order]) -> list[int]:
    """For each serving, how many unfinished tasks stood before its task when it arrived.

    0 is the top. The order is that of the version which came with the task; where a new version
    may have come between asking and answer, the older one counts if the task stood higher in it. A
    task is finished once as many people as it wants have submitted it.

    Where nobody is given a task that somebody else holds, the tasks before it are the ones that
    the others hold: at most one less than there are people.
    """
    finished = _finished(servings)

    def place(serving: Serving, version: str) -> int:
        order = orders[version]
        own = order.get(serving.task, NEVER)
        return sum(
            score < own and finished.get(task, NEVER) > serving.served
            for task, score in order.items()
        )

    arrived = sorted(servings, key=lambda serving: serving.served)
    times = [serving.served for serving in arrived]
    found = []
    for serving in servings:
        before = bisect(times, serving.asked)
        known = {serving.version, *(s.version for s in arrived[:before][-1:])}
        found.append(min(place(serving, version) for version in known))
    return found


def served_too_often(servings: Sequence[Serving]) -> int:
    """How many servings gave a task to more people than it wants."""
    given = Counter(serving.task for serving in servings)
    wanted = {serving.task: serving.wanted for serving in servings}
    return sum(max(0, times - wanted[task]) for task, times in given.items())


def _finished(servings: Sequence[Serving]) -> dict[int, float]:
    """Task → when the last of the submits that it wants was confirmed."""
    found: dict[int, float] = {}
    times: Counter[int] = Counter()
    for serving in sorted(servings, key=lambda serving: serving.submitted):
        times[serving.task] += 1
        if times[serving.task] == serving.wanted:
            found[serving.task] = serving.submitted
    return found


def _serving(number: int, task: Json, asked: float, served: float, submitted: float) -> Serving:
    versions = [str(prediction["model_version"]) for prediction in task["predictions"]]
    return Serving(
        person=number,
        task=int(task["id"]),
        version=versions[0] if versions else "",
        way=str(task["queue"]),
        wanted=int(task["overlap"]),
        asked=asked,
        served=served,
        submitted=submitted,
    )
