"""Steps that fail: retried, parked, shown, and tried again when something has changed."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select, update

from backend import troubles as troubles_of_steps
from backend.attempts import Attempts
from backend.errors import (
    EngineError,
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioUnauthorized,
    LabelStudioUnreachable,
    LeaseLost,
)
from backend.projects import project_status
from backend.store import Store
from backend.tables import Project, Trouble
from backend.troubles import PARKED_SECONDS, is_waited_out, note, revive
from model.errors import ArtifactError, StorageError, TiebreakError
from tests.backend.loop_project import COLOURS, Loop, MakeLoop, fill
from tests.backend.small_label_studio import ColourEngine, SmallLabelStudio

BACK_OFF = (100.0, 400.0, 1600.0)


@pytest.fixture(autouse=True)
def long_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retry comes by itself while a test looks, however slow the machine is."""
    assert troubles_of_steps.BACK_OFF == (1.0, 4.0, 16.0)
    monkeypatch.setattr(troubles_of_steps, "BACK_OFF", BACK_OFF)


class BrokenEngine(ColourEngine):
    """Fails on every picture while ``broken``."""

    broken = True

    def embed(self, images, backbone=None):  # type: ignore[no-untyped-def]
        if self.broken:
            raise ZeroDivisionError("secret detail")
        return super().embed(images, backbone)


@pytest.fixture
def loop(make_loop: MakeLoop, small_label_studio: SmallLabelStudio) -> Loop:
    """Nine pictures, six of them labelled, and an engine that fails."""
    fill(small_label_studio, 9, labelled=6)
    return make_loop(BrokenEngine())


def troubles(store: Store) -> dict[str, Trouble]:
    with store.read() as session:
        return {row.step: row for row in session.scalars(select(Trouble))}


def no_more_waiting(store: Store) -> None:
    """The time of the next try has come."""
    with store.write() as session:
        session.execute(update(Trouble).values(retry_at=time.time() - 1))


def run_until_parked(loop: Loop, store: Store) -> Trouble:
    for failures in range(1, len(BACK_OFF) + 2):
        loop.settle()
        row = troubles(store)["embed_labelled"]
        assert row.failures == failures
        if failures <= len(BACK_OFF):
            assert row.parked_at is None
            assert row.retry_at - time.time() == pytest.approx(BACK_OFF[failures - 1], abs=30)
            no_more_waiting(store)
    return row


def test_a_step_is_retried_three_times_and_then_parked(loop: Loop, store: Store) -> None:
    row = run_until_parked(loop, store)
    assert row.failures == 4
    assert row.parked_at is not None
    assert row.retry_at - time.time() == pytest.approx(PARKED_SECONDS, abs=30)
    loop.settle()
    assert troubles(store)["embed_labelled"].failures == 4
    with store.read() as session:
        status = project_status(session, session.get_one(Project, 1), 30)
    told = {trouble["step"]: trouble for trouble in status.troubles}
    assert told["embed_labelled"]["parked"]
    assert told["embed_labelled"]["sentence"].startswith(
        "Embedding the labelled images failed 4 times and is left alone for now: "
        "Unexpected ZeroDivisionError. The trainer's log has the details. It is tried again when"
    )
    assert "secret detail" not in str(status.troubles)


def test_what_can_do_without_it_goes_on(
    loop: Loop, store: Store, small_label_studio: SmallLabelStudio
) -> None:
    run_until_parked(loop, store)
    small_label_studio.add_task(10, COLOURS["cat"])
    project = loop.settle()
    # The look, the order of before anything is learned and its push need no embedding.
    assert project.served == "v0"
    assert len(small_label_studio.served()) >= 3
    assert project.champion == 0
    assert "train" not in troubles(store)


def test_new_labels_bring_it_back(
    loop: Loop, store: Store, small_label_studio: SmallLabelStudio
) -> None:
    run_until_parked(loop, store)
    engine = loop.engine
    assert isinstance(engine, BrokenEngine)
    engine.broken = False
    loop.settle()
    assert troubles(store)["embed_labelled"].parked_at is not None
    with store.write() as session:
        session.get_one(Project, 1).train_requested_at = time.time()
    project = loop.settle()
    # The pool, whose step waited for its own retry, is not needed for a training.
    assert project.champion == 1
    assert "embed_labelled" not in troubles(store)
    no_more_waiting(store)
    loop.settle()
    assert troubles(store) == {}


def test_a_cluster_that_is_gone_is_asked_until_it_is_back(
    store: Store, small_label_studio: SmallLabelStudio, make_loop: MakeLoop
) -> None:
    class LonelyEngine(BrokenEngine):
        def embed(self, images, backbone=None):  # type: ignore[no-untyped-def]
            if self.broken:
                raise EngineError("The cluster does not answer.", mend="Start its head.")
            return super().embed(images, backbone)

    fill(small_label_studio, 9, labelled=6)
    loop = make_loop(LonelyEngine())
    for failures in range(1, len(BACK_OFF) + 4):
        loop.settle()
        row = troubles(store)["embed_labelled"]
        assert (row.failures, row.parked_at) == (failures, None)
        wait = BACK_OFF[min(failures, len(BACK_OFF)) - 1]
        assert row.retry_at - time.time() == pytest.approx(wait, abs=30)
        no_more_waiting(store)
    with store.read() as session:
        status = project_status(session, session.get_one(Project, 1), 30)
    assert [
        trouble["sentence"] for trouble in status.troubles if "labelled" in trouble["step"]
    ] == [
        "Embedding the labelled images failed and is tried again: The cluster does not answer. "
        "Start its head."
    ]
    loop.engine.broken = False  # type: ignore[attr-defined]
    loop.settle()
    assert troubles(store) == {}
    assert loop.engine.embedded == 3  # the colours are three


@pytest.mark.parametrize("change", ["label", "task", "config", "request", "time", "restart"])
def test_what_makes_a_parked_step_free(
    loop: Loop, store: Store, small_label_studio: SmallLabelStudio, change: str
) -> None:
    with store.write() as session:
        session.get_one(Project, 1).cursor = ""
    loop.settle()
    with store.write() as session:
        for _ in range(4):
            note(session, 1, "compare", "It is broken.", "")
    calls: list[str] = []

    def compare() -> bool:
        calls.append(change)
        return False

    def attempt() -> None:
        Attempts(loop.tools, 1, lambda _: None).run("compare", compare)

    attempt()
    assert calls == []
    if change == "label":
        small_label_studio.annotate(7, label=["cat"])
        loop.settle()
    elif change == "task":
        small_label_studio.add_task(11, COLOURS["dog"])
        loop.settle()
    elif change == "time":
        no_more_waiting(store)
    elif change == "restart":
        revive(store)
    else:
        with store.write() as session:
            project = session.get_one(Project, 1)
            project.train_requested_at = 1.0 if change == "request" else None
            project.label_config += " " if change == "config" else ""
    attempt()
    attempt()
    assert set(calls) == {change}
    assert "compare" not in troubles(store)


def test_a_restart_leaves_alone_what_never_ended(loop: Loop, store: Store) -> None:
    with store.write() as session:
        for _ in range(4):
            note(session, 1, "train", "It hung.", "", hung=True)
    revive(store)
    assert troubles(store)["train"].parked_at is not None


def test_a_step_waits_for_one_that_it_needs(loop: Loop, store: Store) -> None:
    with store.write() as session:
        note(session, 1, "recover", "It is broken.", "")
    woken: list[float] = []
    attempts = Attempts(loop.tools, 1, woken.append)
    assert not attempts.run("push", lambda: pytest.fail("it was tried"))
    assert attempts.run("order", lambda: True)
    assert woken == [troubles(store)["recover"].retry_at]


def test_whoever_lost_the_lease_parks_nothing(loop: Loop, store: Store) -> None:
    loop.tools.leases.release(1)

    def fail() -> bool:
        raise ValueError

    with pytest.raises(LeaseLost):
        Attempts(loop.tools, 1, lambda _: None).run("order", fail)
    assert troubles(store) == {}


@pytest.mark.parametrize(
    ("error", "waited_out"),
    [
        (LabelStudioUnreachable("down"), True),
        (LabelStudioUnauthorized("who?", status=401), True),
        (LabelStudioError("busy", status=500), True),
        (LabelStudioError("slow down", status=429), True),
        (LabelStudioError("bad", status=400), False),
        (LabelStudioNotFound("gone", status=404), False),
        (StorageError("full"), True),
        (LeaseLost("lost"), True),
        (ArtifactError("damaged"), False),
        (TiebreakError("no"), False),
        (ValueError("no"), False),
    ],
)
def test_what_is_no_fault_of_a_step(error: Exception, waited_out: bool) -> None:
    assert is_waited_out(error) is waited_out
