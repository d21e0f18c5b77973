"""What was found complete is not looked through again until something is disturbed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select

from backend import quality_steps
from backend.calm import Calm
from backend.hints import add_hint
from backend.store import Store
from backend.tables import Project, Task
from tests.backend.loop_project import COLOURS, Loop, MakeLoop, fill
from tests.backend.small_label_studio import SmallLabelStudio


def test_a_fact_holds_until_its_time_or_a_disturbance() -> None:
    calm, soon = Calm(), time.time() + 60
    calm.keep(1, "counts", 7, soon)
    calm.keep(1, "sent", True, 0.0)
    calm.keep(2, "counts", 8, soon)
    assert (calm.find(1, "counts"), calm.find(1, "sent"), calm.find(3, "counts")) == (7, None, None)
    calm.disturb(1)
    assert (calm.find(1, "counts"), calm.find(2, "counts")) == (None, 8)


@contextmanager
def _statements(store: Store) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    yield said
    event.remove(store.engine, "before_cursor_execute", note)


def _after(loop: Loop, task: int) -> Project:
    """Do what a webhook about one task leaves to do."""
    add_hint(loop.tools.store, 1, "ANNOTATION_CREATED", [task], train=False)
    loop.reconciler.run(lambda: False)
    with loop.tools.store.read() as session:
        return session.get_one(Project, 1)


def test_a_label_has_no_image_looked_through_again(
    make_loop: MakeLoop,
    small_label_studio: SmallLabelStudio,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A check of the labels comes when it may take its share of the time again.
    monkeypatch.setattr(quality_steps, "PAUSE", 1e6)
    fill(small_label_studio, 30, 12)
    loop = make_loop(min_new_labels=10, quiet_seconds=0.0, gate_margin=1.0, transfer="features")
    assert loop.settle().champion == 1
    loop.settle()
    _after(loop, 12)
    small_label_studio.annotate(13, label=["dog"])
    with _statements(store) as said:
        _after(loop, 13)
    assert loop.control().labels == 13
    assert not [one for one in said if "embeddings" in one or "image_groups" in one]


def test_a_new_task_is_embedded_and_sent_at_once(
    make_loop: MakeLoop, small_label_studio: SmallLabelStudio
) -> None:
    fill(small_label_studio, 30, 12)
    loop = make_loop(min_new_labels=10, quiet_seconds=0.0, gate_margin=1.0, transfer="features")
    assert loop.settle().champion == 1
    small_label_studio.add_task(31, COLOURS["owl"])
    project = _after(loop, 31)
    assert 31 in small_label_studio.served()
    # One that is in the queue again, too.
    small_label_studio.annotate(20, label=["dog"])
    _after(loop, 20)
    small_label_studio.predictions = [p for p in small_label_studio.predictions if p["task"] != 20]
    small_label_studio.tasks[20]["annotations"] = []
    with loop.tools.store.write() as session:
        session.get_one(Task, (1, 20)).pushed_version = None
    _after(loop, 20)
    assert 20 in small_label_studio.served()
    assert project.served == "v1"


def test_a_look_at_changes_lists_no_numbers_while_none_is_missing(
    make_loop: MakeLoop, small_label_studio: SmallLabelStudio
) -> None:
    fill(small_label_studio, 6)
    loop = make_loop()
    loop.settle()
    asked: list[str] = []
    small_label_studio.before_answer = asked.append
    loop.settle()
    assert len([path for path in asked if "/api/projects/1" in path]) == 1
    assert not [path for path in asked if "include=id&" in path]
    del small_label_studio.tasks[3]
    small_label_studio.add_task(9, COLOURS["owl"])
    small_label_studio.add_task(10, COLOURS["cat"])
    loop.settle()
    with loop.tools.store.read() as session:
        assert list(session.scalars(select(Task.id).order_by(Task.id))) == [1, 2, 4, 5, 6, 9, 10]
