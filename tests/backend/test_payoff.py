"""Which labels count as picks, what is compared when, and what is kept of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backend.payoff import GROWN, Look, decide, looks_due, record
from backend.payoff_job import read_result, run_job, write_job
from backend.pool_priors import pool_embeddings
from backend.sync import controls_of
from backend.tables import Embedding, Order, Project, Task
from model.audit import in_audit
from model.head import power_normalise
from model.payoff import Comparison, Stage, Verdict, comparable
from model.pool_prior import PoolPrior
from tests.backend.conftest import BACKBONE, Tables, digest_of

SHARE = 0.5


def order(tables: Tables, number: int, at: float, strategy: str, known: int = 9) -> None:
    with tables.store.write() as session:
        session.add(
            Order(
                project_id=1,
                version=number,
                number=0,
                created_at=at,
                reason="",
                strategy=strategy,
                audit_share=SHARE,
                pace=SHARE,
                known=known,
                picks=[],
                places=b"",
                scale={},
            )
        )


def labelled(tables: Tables, task_id: int, name: str, at: float | None) -> None:
    tables.label(task_id, name)
    with tables.store.write() as session:
        session.get_one(Task, (1, task_id)).labelled_at = at


def due(tables: Tables) -> list[Look]:
    with tables.store.read() as session:
        project = session.get_one(Project, 1)
        return looks_due(session, project, controls_of(project), BACKBONE, SHARE)


def audited(count: int) -> list[int]:
    return [n for n in range(1, count + 1) if in_audit(digest_of(n), SHARE)]


def rows_of(tables: Tables, look: Look, classes: list[str]) -> list[int]:
    """The tasks of the picked rows, by their embeddings."""

    with tables.store.read() as session:
        known = {
            session.get_one(Embedding, (digest_of(n), BACKBONE)).vector: n
            for n in range(1, len(classes) + 1)
        }
    return [known[row.astype("<f2").tobytes()] for row in np.asarray(look.picked.embeddings)]


def test_picks_are_those_labelled_under_an_order_by_choice(tables: Tables) -> None:
    classes = tables.clusters(300)
    held = audited(300)
    others = [n for n in range(1, 301) if n not in held]
    order(tables, 0, 0.0, "", known=0)  # of before orders were written down: random
    order(tables, 1, 100.0, "margin")
    order(tables, 2, 200.0, "random")
    order(tables, 3, 300.0, "auto")
    for n in held:
        labelled(tables, n, classes[n - 1], 50.0)
    # Three have no date, ten came at random, then 20 picks, ten at random, and the rest are picks
    # again, the later task first.
    moments = [None] * 3 + [50.0] * 10 + [150.0] * 20 + [250.0] * 10
    moments += [301.0 + (400 - n) for n in others[43:]]
    for n, at in zip(others, moments, strict=True):
        labelled(tables, n, classes[n - 1], at)
    first, last = due(tables)
    m = comparable(len(held))
    again = others[43:][::-1]
    assert (first.stage, last.stage) == (Stage.FIRST, Stage.LAST)
    assert len(first.audit) == len(held)
    assert rows_of(tables, first, classes) == [*others[13:33], *again][:m]
    assert first.before == 0
    # Of the last picks as many as can be compared are there, without one by chance among them;
    # before that they are missing.
    assert len(again) < m
    assert rows_of(tables, last, classes) == again
    assert last.compare(0).missing == m - len(again)
    assert not last.tells


def test_the_labels_before_the_last_picks_are_learned_by_both(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = tables.clusters(250)
    held = audited(250)[:50]
    others = [n for n in range(1, 251) if n not in audited(250)]
    order(tables, 0, 10.0, "uherding")
    for n in held:
        labelled(tables, n, classes[n - 1], 20.0)
    for n in others:
        labelled(tables, n, classes[n - 1], 20.0 + n)
    _, last = due(tables)
    assert last.tells
    assert last.before == len(others) - 40
    assert rows_of(tables, last, classes) == others
    monkeypatch.setattr("backend.payoff.MOST_LEARNED", 25)
    _, fewer = due(tables)
    rows = rows_of(tables, fewer, classes)
    assert (len(rows), fewer.before) == (65, len(others) - 40)
    assert rows[25:] == others[-40:]
    assert rows[:25] == sorted(set(rows[:25]))
    assert set(rows[:25]) < set(others[:-40])
    assert fewer.compare(0).learned == len(others) - 40


def test_of_near_duplicates_in_the_audit_set_one_counts(tables: Tables) -> None:
    held = audited(40)
    for n in range(1, 41):
        tables.task(n, np.eye(3, 16)[n % 3], leader=digest_of(held[0]) if n in held[:4] else "")
        labelled(tables, n, ("cat", "dog", "owl")[n % 3], 5.0)
    first, _ = due(tables)
    assert len(first.audit) == len(held) - 3
    assert first.compare(0).missing == 50 - len(first.audit)


@pytest.mark.parametrize("strategy", ["margin", "entropy", "least-confidence", "random"])
def test_before_anything_is_learned_measures_pick_by_chance(tables: Tables, strategy: str) -> None:
    tables.clusters(30)
    order(tables, 0, 1.0, strategy)
    for n in range(1, 31):
        labelled(tables, n, "cat", 5.0)
    first, last = due(tables)
    assert len(first.picked) == len(last.picked) == 0


def made(stage: Stage, verdict: Verdict, audit: int, difference: float, **more: Any) -> Comparison:
    error = 0.02
    told = verdict is not Verdict.CANNOT_TELL
    figures = (0.6, 0.6 - difference, difference, difference - 0.04, difference + 0.04, error)
    return Comparison(
        stage, verdict, 80, more.get("learned", 120), audit, *(figures if told else ()), missing=0
    )


HURTS = made(Stage.LAST, Verdict.HURTS, 100, -0.2)
SAME = made(Stage.LAST, Verdict.NO_DIFFERENCE, 100, 0.01)
UNKNOWN = made(Stage.LAST, Verdict.CANNOT_TELL, 20, 0)


def test_harm_switches_choosing_off_until_labels_have_doubled() -> None:
    kept = record({}, [("label", HURTS)], 4, {"label": 200})
    assert (kept["choose"], kept["checked"]) == (False, 4)
    assert kept["sentence"].startswith("The order is random until there are 400 labels. Choosing")
    later = record(kept, [], 5, {"label": 399})
    assert not later["choose"]
    again = record(later, [], 6, {"label": 400})
    assert (again["choose"], again["sentence"]) == (
        True,
        "The queue chooses again, after 400 labels.",
    )
    assert record({}, [("label", SAME)], 4, {"label": 200})["choose"]


def test_with_several_controls_all_must_be_harmed() -> None:
    labels = {"label": 200, "tags": 200}
    assert record({}, [("label", HURTS), ("tags", SAME)], 1, labels)["choose"]
    assert not record({}, [("label", HURTS), ("tags", HURTS)], 1, labels)["choose"]
    # One that cannot be compared has no say.
    assert not record({}, [("label", HURTS), ("tags", UNKNOWN)], 1, labels)["choose"]
    assert decide({}, labels).choose
    # A control that is no longer asked about has none either.
    kept = record({}, [("label", HURTS), ("tags", SAME)], 1, labels)
    assert not record(kept, [], 2, {"label": 200})["choose"]


def test_what_has_been_told_stays_until_it_is_told_anew(tables: Tables) -> None:
    classes = tables.clusters(250)
    order(tables, 0, 1.0, "auto")
    held = audited(250)
    for n in range(1, 251):
        if n not in held or n in held[:59]:
            labelled(tables, n, classes[n - 1], 5.0 + n)
    first = made(Stage.FIRST, Verdict.HELPS, 50, 0.1)
    last = made(Stage.LAST, Verdict.NO_DIFFERENCE, 49, 0.0)
    kept = record({}, [("label", first), ("label", last)], 1, {"label": 90})
    with tables.store.write() as session:
        session.get_one(Project, 1).payoff = kept
    # 59 audit labels are 1.2 times 49, but not yet 1.2 times 50.
    assert [look.stage for look in due(tables)] == [Stage.LAST]
    labelled(tables, held[59], classes[held[59] - 1], 500.0)
    assert [look.stage for look in due(tables)] == [Stage.FIRST, Stage.LAST]
    assert GROWN * 50 == 60
    after = record(kept, [("label", UNKNOWN)], 2, {"label": 95})
    assert after["controls"]["label"]["shown"]["last"]["verdict"] == "no difference seen"
    assert len(after["controls"]["label"]["history"]) == 1


def test_the_job_finds_what_was_laid_down(tables: Tables, tmp_path: Any) -> None:
    classes = tables.clusters(250)
    order(tables, 0, 1.0, "auto")
    held = audited(250)
    for n in range(1, 251):
        if n not in held or n in held[:50]:
            labelled(tables, n, classes[n - 1], 5.0 + n)
    looks = due(tables)
    assert read_result(tmp_path / "job") is None
    write_job(tmp_path / "job", looks, 3)
    run_job(tmp_path / "job")
    assert read_result(tmp_path / "job") == [("label", look.compare(3)) for look in looks]
    write_job(tmp_path / "job", looks, 3)
    assert read_result(tmp_path / "job") is None


def test_its_heads_listen_to_the_unlabelled_images(tables: Tables, tmp_path: Any) -> None:
    classes = tables.clusters(250)
    order(tables, 0, 1.0, "auto")
    held = audited(250)
    for n in range(1, 251):
        if n % 3 and (n not in held or n in held[:90]):
            labelled(tables, n, classes[n - 1], 5.0 + n)
    looks = due(tables)
    assert all(look.tells for look in looks)
    with tables.store.read() as session:
        rows = pool_embeddings(session, 1, "image", BACKBONE)
    assert rows is not None
    assert rows.shape[0] == 250
    write_job(tmp_path / "job", looks, 3, {"image": rows})
    run_job(tmp_path / "job")
    prior = PoolPrior(power_normalise(rows))
    found = [("label", look.compare(3, prior)) for look in looks]
    assert read_result(tmp_path / "job") == found
    assert found != [("label", look.compare(3)) for look in looks]
