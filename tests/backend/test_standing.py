from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.ordering import batch_size
from backend.settings import Settings
from backend.standing import Standing, count, standing, why_due
from backend.sync import controls_of
from backend.tables import Order, Task, Version
from tests.backend.cats_by_angle import (
    queue_settings,
)
from tests.backend.conftest import BACKBONE, Tables


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return queue_settings(settings)


NOW = Standing(known=100, waiting=90, complete=True, strategy="margin", audit_share=0.1, pace=0.1)


def _order(**values: object) -> Order:
    given = {
        "project_id": 1,
        "version": 1,
        "number": 0,
        "strategy": "margin",
        "audit_share": 0.1,
        "pace": 0.1,
        "known": 100,
        "picks": [],
    }
    return Order(**{**given, **values})


@pytest.mark.parametrize(
    ("order", "now", "said"),
    [
        (_order(), {}, ""),
        (_order(known=80), {}, ""),
        (_order(known=66), {}, "100 tasks are known, 66 before"),
        (_order(known=0), {}, "100 tasks are known, 0 before"),
        (_order(known=66), {"complete": False}, ""),
        (_order(known=0), {"complete": False}, ""),
        (_order(known=0), {"complete": False, "known": 1000}, "1000 tasks are known, 0 before"),
        (_order(known=100), {"complete": False, "known": 999}, ""),
        (_order(known=100), {"complete": False, "known": 1000}, "1000 tasks are known, 100 before"),
        (_order(known=900), {"complete": False, "known": 8999}, ""),
        (_order(known=0), {"known": 0}, ""),
        (_order(strategy="random"), {}, "margin picks, random before"),
        (_order(strategy="", known=0), {"complete": False}, ""),
        (_order(audit_share=0.2), {}, "share of the audit set"),
        (_order(pace=0.16), {}, "share of the audit set"),
        (_order(pace=0.14), {}, ""),
        (_order(pace=0.06), {}, "share of the audit set"),
        (_order(audit_share=0.0, pace=0.0), {"audit_share": 0.0, "pace": 0.0}, ""),
        (None, {}, "a new version"),
        (None, {"complete": False}, ""),
        (None, {"complete": False, "waiting": 128}, "a new version"),
    ],
)
def test_when_an_order_is_due(
    tables: Tables, order: Order | None, now: dict[str, float], said: str
) -> None:
    with tables.store.read() as session:
        found = why_due(session, 1, order, replace(NOW, **now))
    assert (said in found) if said else found == ""


def test_a_project_opens_before_anything_is_known(tables: Tables) -> None:
    nothing = replace(NOW, known=0, waiting=0, complete=False)
    with tables.store.read() as session:
        assert why_due(session, 0, None, nothing) == "nothing is learned yet"


def test_an_order_whose_picks_are_used_up_is_made_anew(tables: Tables) -> None:
    for task_id in range(1, 5):
        tables.task(task_id)
    order = _order(picks=[1, 2, 3])

    def due() -> str:
        with tables.store.read() as session:
            return why_due(session, 1, order, NOW)

    tables.label(1, "cat")
    assert due() == ""
    with tables.store.write() as session:
        session.get_one(Task, (1, 2)).skips = 1
        session.delete(session.get_one(Task, (1, 3)))
    assert due() == "its picks are used up"


def test_how_a_project_stands(tables: Tables, settings: Settings) -> None:
    tables.clusters(8)
    tables.task(9)
    tables.task(10, np.eye(1, 16)[0], leader=None)
    tables.label(1, "cat")

    def stands() -> Standing:
        with tables.store.read() as session:
            return standing(session, tables.project(), settings, count(session, 1, BACKBONE))

    share = settings.audit_share
    assert stands() == Standing(8, 7, False, "margin", share, share)
    wide, narrow = (
        {"label": {"held_out": {"accuracy": {"low": 0.9 - width, "high": 0.9 + width}}}}
        for width in (0.04, 0.02)
    )
    tenth = settings.model_copy(update={"audit_share": 0.1})
    for number, measures, pace in ((1, wide, 0.1), (2, narrow, 0.1 * (0.02 / 0.03) ** 2)):
        with tables.store.write() as session:
            session.add(_version(number, 10, {"measures": measures}))
        with tables.store.read() as session:
            counts = count(session, 1, BACKBONE)
            found = standing(session, tables.project(), tenth, counts).pace
        assert found == pytest.approx(pace)


def _version(number: int, labels: int, metrics: dict[str, object]) -> Version:
    return Version(
        project_id=1,
        number=number,
        created_at=0.0,
        kept=True,
        reason="",
        labels=labels,
        backbone=BACKBONE,
        metrics=metrics,
    )


@pytest.mark.parametrize(
    ("labels", "options", "batch"),
    [
        ([], {}, 10),  # three classes, two images each: six, and ten at least
        ([], {"min_new_labels": 15}, 15),
        ([12], {}, 10),
        ([12, 24, 60, 72], {}, 12),
        ([12, 42, 72], {}, 30),
        ([12, 42, 72], {"queue_head": 20}, 20),
        ([12, 42, 72], {"batch_size": 7}, 7),
        ([40, 30], {}, 10),  # labels were taken back
    ],
)
def test_a_batch_is_what_is_labelled_between_two_trainings(
    tables: Tables,
    settings: Settings,
    labels: list[int],
    options: dict[str, int],
    batch: int,
) -> None:
    with tables.store.write() as session:
        for number, count in enumerate(labels, start=1):
            session.add(_version(number, count, {}))
    given = settings.model_copy(update={"batch_size": 0, "queue_head": 200, **options})
    with tables.store.read() as session:
        project = tables.project()
        assert batch_size(session, project, given, controls_of(project)) == batch
