"""A second promise covers what the first left over, and must hold for that alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from sqlalchemy import select

from backend.auto_label import begin_run, take_back
from backend.auto_plan import Plan, make_plan
from backend.errors import SetupError
from backend.labelstudio import LabelStudio
from backend.promises import covered_tasks
from backend.settings import Settings
from backend.store import Store
from backend.tables import AutoRun, Project
from backend.versions import get_version, load_version
from model.audit import in_audit
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.saved_versions import save_version

AUDIT, STRICT, LOOSE = 0.2, 0.04, 0.15
SURE, LESS = 1100, 200
Ask = Callable[..., Plan]
Laid = Callable[..., Ask]


@pytest.fixture
def laid(tables: Tables, settings: Settings) -> Laid:
    """Lays out so many images that the version calls cats. It is not quite as sure of those that
    come last, and wrong on every so many-th of these; then asks for promises."""
    settings = settings.model_copy(update={"audit_share": AUDIT, "check_share": 0.1})

    def lay(sure: int, less: int, *, wrong: int) -> Ask:
        vectors = np.zeros((sure + less, 16))
        vectors[:sure, 0], vectors[sure:, 0], vectors[sure:, 5] = 1, 0.75, 0.66
        in_set = [in_audit(digest_of(task), AUDIT) for task in range(1, sure + less + 1)]
        # As many of the audit images as of the others are wrong.
        seen = {True: 0, False: 0}
        for task, vector in enumerate(vectors, 1):
            tables.task(task, vector)
            truth = "cat"
            if task > sure:
                seen[in_set[task - 1]] += 1
                truth = "cat" if seen[in_set[task - 1]] % wrong else "dog"
            if in_set[task - 1]:
                tables.label(task, truth)
        weights = np.zeros((16, 3), dtype=np.float32)
        weights[0, 0] = 6
        save_version(tables, settings, 1, weights=weights, backbone=BACKBONE)

        def ask(max_error: float, *, per_class: bool = False) -> Plan:
            with tables.store.read() as session:
                artifact = load_version(settings, 1, get_version(session, 1, 1))
                project = session.get_one(Project, 1)
                return make_plan(
                    session,
                    project,
                    artifact,
                    settings,
                    max_error=max_error,
                    confidence=0.95,
                    per_class=per_class,
                )

        return ask

    return lay


@pytest.mark.parametrize("per_class", [False, True])
def test_it_does_not_stand_on_what_the_first_covers(
    laid: Laid, store: Store, small_client: LabelStudio, per_class: bool
) -> None:
    """One in six of the rest is wrong: sure audit labels must not hide that, nor sure others."""
    ask = laid(SURE, LESS, wrong=6)
    first = ask(STRICT)
    taken = {one.task_id for one in first.accepted + first.checks} | set(first.audit)
    assert taken == set(range(1, SURE + 1))
    with store.write() as session:
        begin_run(session, 1, first, STRICT, 0.95)
    with store.read() as session:
        assert covered_tasks(session, 1) == taken
    second = ask(LOOSE, per_class=per_class)
    promise = second.promises[0]
    assert (promise.threshold, second.accepted, second.checks) == (None, [], [])
    assert promise.labels == sum(in_audit(digest_of(t), AUDIT) for t in range(SURE + 1, 1301))
    take_back(store, small_client, 1)
    assert len(ask(LOOSE).accepted) > len(first.accepted)


def test_it_covers_what_came_later(laid: Laid, tables: Tables) -> None:
    ask = laid(300, 0, wrong=1)
    first = ask(0.1)
    with tables.store.write() as session:
        begin_run(session, 1, first, 0.1, 0.95)
    none = ask(0.1)
    assert (none.accepted, none.promises[0].reason) == ([], "There is no image to accept.")
    later = range(301, 501)
    for task in later:
        tables.task(task, np.eye(1, 16)[0])
        if in_audit(digest_of(task), AUDIT):
            tables.label(task, "cat")
    second = ask(0.1)
    taken = {one.task_id for one in second.accepted + second.checks} | set(second.audit)
    assert taken == set(later)
    assert (second.promises[0].labels, second.promises[0].errors) == (len(second.audit), 0)


def test_a_plan_that_another_command_was_quicker_than_is_refused(laid: Laid, store: Store) -> None:
    ask = laid(300, 10, wrong=2)
    late = ask(LOOSE)
    with store.write() as session:
        begin_run(session, 1, ask(LOOSE), LOOSE, 0.95).state = "done"
    with store.write() as session, pytest.raises(SetupError, match="meanwhile"):
        begin_run(session, 1, late, LOOSE, 0.95)


def test_no_promise_begins_beside_one_that_is_under_way(laid: Laid, store: Store) -> None:
    """Not even for tasks of its own: what both stand on would be counted twice."""
    ask = laid(300, 10, wrong=2)
    plan = ask(LOOSE)
    half = len(plan.accepted) // 2
    parts = [
        replace(plan, accepted=some, checks=[], audit=[])
        for some in (plan.accepted[:half], plan.accepted[half:])
    ]
    with store.write() as session:
        begin_run(session, 1, parts[0], LOOSE, 0.95)
    with store.write() as session, pytest.raises(SetupError, match="meanwhile"):
        begin_run(session, 1, parts[1], LOOSE, 0.95)


def test_of_commands_at_once_one_begins(laid: Laid, store: Store) -> None:
    plan = laid(300, 10, wrong=2)(LOOSE)
    together = Barrier(4)

    def begin(_: int) -> bool:
        together.wait()
        try:
            with store.write() as session:
                begin_run(session, 1, plan, LOOSE, 0.95)
        except SetupError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(begin, range(4))) == 1
    with store.read() as session:
        assert len(session.scalars(select(AutoRun)).all()) == 1
