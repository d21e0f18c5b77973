"""Promotions, rolling restarts and stops while many people ask: no request fails."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from backend.versions import promote
from tests.backend.predict_load import Callers, expected_answers
from tests.backend.served_project import ServedProject, ServerProcess

TASKS = range(1, 6)
VERSIONS = range(1, 5)
WORKERS = {"TIEBREAK_WORKERS": "2", "TIEBREAK_THREADS": "4"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProject]:
    made = ServedProject(tmp_path_factory.mktemp("served"), tasks=5, versions=len(VERSIONS))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(project: ServedProject) -> Iterator[ServerProcess]:
    made = ServerProcess(project, WORKERS).start()
    yield made
    made.close()


def wait_for(callers: Callers, count: int) -> None:
    deadline = time.monotonic() + 60
    while callers.done < count:
        assert time.monotonic() < deadline, callers.outcome
        time.sleep(0.01)


def test_version_and_numbers_always_belong_together(
    project: ServedProject, server: ServerProcess
) -> None:
    expected = expected_answers(project, VERSIONS, TASKS)
    body = project.body(TASKS)
    switched: list[tuple[float, str]] = []
    with Callers(server, body, expected, count=8, most=240) as callers:
        for turn in range(6):
            wait_for(callers, 30 * (turn + 1))
            number = 1 + turn % len(VERSIONS)
            promote(project.store, project.settings, 1, number)
            switched.append((time.time(), f"v{number}"))
        callers.join()
    outcome = callers.outcome
    assert (outcome.answered, outcome.failures, outcome.refused) == (240, [], 0)
    assert outcome.wrong == []
    assert len({version for _, version in outcome.asked}) >= 3
    for began, version in outcome.asked:
        known = {name for at, name in switched if at <= began}
        newest = max((at, name) for at, name in switched if at <= began)[1] if known else ""
        # What is asked after a promotion is answered by it, or by a later one.
        later = {name for at, name in switched if at > began}
        assert not known or version in {newest, *later}


def test_a_rolling_restart_fails_nobody(project: ServedProject, server: ServerProcess) -> None:
    expected = expected_answers(project, VERSIONS, TASKS)
    with Callers(server, project.body(TASKS), expected, count=4, fresh=True) as callers:
        wait_for(callers, 10)
        server.renew()
        wait_for(callers, callers.done + 20)
    outcome = callers.outcome
    assert (outcome.failures, outcome.refused, outcome.wrong) == ([], 0, [])


def test_a_stop_fails_no_request_that_was_taken(
    project: ServedProject, server: ServerProcess
) -> None:
    expected = expected_answers(project, VERSIONS, TASKS)
    body = project.body(TASKS)
    with (
        Callers(server, body, expected, count=3, fresh=True) as once,
        Callers(server, body, expected, count=3) as kept,
    ):
        wait_for(once, 10)
        wait_for(kept, 10)
        assert server.stop() == 0
        wait_for(once, once.done + 2)
        wait_for(kept, kept.done + 2)
    for callers in (once, kept):
        assert (callers.outcome.failures, callers.outcome.wrong) == ([], [])
        assert callers.outcome.answered >= 10
        assert callers.outcome.refused > 0
