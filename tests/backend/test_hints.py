from __future__ import annotations

import time

import pytest
from sqlalchemy import select

from backend.hints import (
    EVERYTHING_ABOVE,
    add_hint,
    close_request,
    forget_hints,
    newest_hints,
    pending_look,
)
from backend.store import Store
from backend.tables import Hint, Project
from tests.backend.databases import both_databases

pytestmark = both_databases


@pytest.fixture(autouse=True)
def project(store: Store) -> None:
    with store.write() as session:
        session.add(Project(id=1, connected_at=0.0))


def test_hints_become_one_look(store: Store) -> None:
    assert pending_look(store, 1) is None
    add_hint(store, 1, "ANNOTATION_CREATED", [7], train=False)
    add_hint(store, 1, "ANNOTATION_CREATED", [3, 7], train=False)
    look = pending_look(store, 1)
    assert look is not None
    assert (look.everything, look.task_ids) == (False, (3, 7))
    assert list(newest_hints(store)) == [1]


def test_a_hint_without_tasks_asks_for_everything(store: Store) -> None:
    add_hint(store, 1, "ANNOTATION_CREATED", [7], train=False)
    add_hint(store, 1, "ANNOTATIONS_DELETED", None, train=False)
    look = pending_look(store, 1)
    assert look is not None
    assert look.everything


def test_very_many_tasks_are_looked_at_all_together(store: Store) -> None:
    add_hint(store, 1, "TASKS_CREATED", list(range(EVERYTHING_ABOVE + 1)), train=False)
    look = pending_look(store, 1)
    assert look is not None
    assert look.everything


def test_a_hint_that_comes_during_a_look_stays(store: Store) -> None:
    add_hint(store, 1, "ANNOTATION_CREATED", [7], train=False)
    look = pending_look(store, 1)
    assert look is not None
    add_hint(store, 1, "ANNOTATION_CREATED", [8], train=False)
    forget_hints(store, 1, look.ids)
    left = pending_look(store, 1)
    assert left is not None
    assert left.task_ids == (8,)


def test_a_project_that_is_not_kept_is_said_so(store: Store) -> None:
    assert not add_hint(store, 99, "ANNOTATION_CREATED", [7], train=False)
    assert list(newest_hints(store)) == []


@pytest.mark.parametrize("train", [True, False])
def test_only_a_request_asks_for_training(store: Store, train: bool) -> None:
    add_hint(store, 1, "X", None, train=train)
    with store.read() as session:
        assert (session.get_one(Project, 1).train_requested_at is not None) == train


def test_a_request_stays_open_until_its_hint_was_followed(store: Store) -> None:
    add_hint(store, 1, "START_TRAINING", None, train=True)
    with store.write() as session:
        project = session.get_one(Project, 1)
        assert not close_request(session, project, time.time())
        requested = project.train_requested_at
    assert requested is not None
    look = pending_look(store, 1)
    assert look is not None
    forget_hints(store, 1, look.ids)
    with store.write() as session:
        project = session.get_one(Project, 1)
        assert not close_request(session, project, requested - 1)
        assert project.train_requested_at == requested
        assert close_request(session, project, requested)
        assert project.train_requested_at is None
        assert close_request(session, project, requested)


def test_an_action_that_no_column_takes_is_kept_short(store: Store) -> None:
    assert add_hint(store, 1, "A\0" + "x" * 1000, [7], train=False)
    with store.read() as session:
        assert session.scalars(select(Hint.action)).all() == ["A\ufffd" + "x" * 58]


def test_only_what_was_looked_at_is_forgotten(store: Store) -> None:
    for task in (1, 2, 3):
        add_hint(store, 1, "ANNOTATION_CREATED", [task], train=False)
    look = pending_look(store, 1)
    assert look is not None
    # The first one was written last: its number was given before, but it was committed later.
    forget_hints(store, 1, look.ids[1:])
    left = pending_look(store, 1)
    assert left is not None
    assert (left.ids, left.task_ids) == (look.ids[:1], (1,))
