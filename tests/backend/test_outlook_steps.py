"""The trainer's own steps: a forecast, and chance in place of a queue that does harm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.labelstudio import LabelStudio
from backend.projects import project_status
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from backend.version_metrics import OUTLOOK
from model.payoff import comparable
from tests.backend.loop_project import CLASSES
from tests.backend.queue_studio import Studio, of_the_queue, picture
from tests.backend.small_label_studio import SmallLabelStudio

TASKS = 180


@pytest.fixture
def crowd(
    settings: Settings,
    store: Store,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> Iterator[Studio]:
    """A project that opens by choice, with half of its images in the audit set."""
    crowded = of_the_queue(
        settings,
        small_label_studio,
        audit_share=0.5,
        strategy="typiclust",
        queue_head=40,
        gate_margin=settings.gate_margin,
    )
    made = Studio(small_label_studio, crowded, store, small_client)
    for task in range(41, TASKS + 1):
        small_label_studio.add_picture(task, picture(task))
    yield made
    made.loop.tools.payoffs.stop()
    made.loop.tools.fetcher.close()


def _label(studio: Studio, count: int, says: Callable[[int], str]) -> None:
    """Label what is served next; ``says`` gives the class of an image that is not audited."""
    audit = studio.audit()
    for task in studio.queue()[:count]:
        right = CLASSES[task % 3]
        studio.server.annotate(task, label=[right if task in audit else says(task)])


def _compared(studio: Studio) -> Project:
    """Settle until the picks were compared, which a process of its own does."""
    project = studio.settle()
    for _ in range(1200):
        if project.payoff.get("checked"):
            return project
        time.sleep(0.1)
        project = studio.settle()
    raise AssertionError("the picks were never compared")


def _status(studio: Studio) -> dict[str, Any]:
    with studio.store.read() as session:
        return project_status(session, session.get_one(Project, 1), 30).as_json()


def test_a_queue_that_does_harm_gives_way_to_chance(crowd: Studio) -> None:
    crowd.settle()
    # What the queue picks is labelled as the next class, so that it teaches what is wrong.
    _label(crowd, 150, lambda task: CLASSES[(task + 1) % 3])
    project = _compared(crowd)
    assert (project.champion, project.choosing) == (1, False)
    shown = project.payoff["controls"]["label"]["shown"]
    audited = shown["last"]["audited"]
    assert 50 <= audited <= 100
    for stage in ("first", "last"):
        assert shown[stage]["verdict"] == "hurts"
        assert shown[stage]["compared"] == comparable(audited)
        assert shown[stage]["queue"] < 0.2 < 0.8 < shown[stage]["random"]
    # The order is made anew, by chance, and Label Studio goes by it.
    orders = [(order.name, order.strategy) for order in crowd.orders()]
    assert orders[-2:] == [("v1", "typiclust"), ("v1.1", "random")]
    assert crowd.orders()[-1].reason == "random picks, typiclust before"
    assert crowd.server.project["model_version"] == project.served == "v1.1"
    read = _status(crowd)["outlook"]["sentences"][-1]
    assert read.startswith("The order is random until there are")
    assert "Choosing does harm" in read
    # Nothing is left to do, nor to be compared again.
    assert _compared(crowd).served == "v1.1"
    assert crowd.loop.tools.payoffs.project_id is None


def test_a_queue_that_does_no_harm_goes_on(crowd: Studio) -> None:
    crowd.settle()
    _label(crowd, 150, lambda task: CLASSES[task % 3])
    project = _compared(crowd)
    assert (project.champion, project.choosing, project.served) == (1, True, "v1")
    shown = project.payoff["controls"]["label"]["shown"]
    assert shown["last"]["verdict"] in ("no difference seen", "helps")
    assert [order.name for order in crowd.orders()] == ["v0", "v0.1", "v1"]


def test_few_audit_labels_cannot_tell_and_start_no_process(crowd: Studio) -> None:
    crowd.settle()
    _label(crowd, 30, lambda task: CLASSES[task % 3])
    project = crowd.settle()
    assert (project.payoff["checked"], project.choosing) == (1, True)
    with crowd.store.read() as session:
        version = session.get_one(Version, (1, 1))
    point = version.metrics["audit"]["label"]
    assert point["labels"] + point["groups"] <= 30
    assert version.metrics[OUTLOOK]["forecasts"]["label"]["outlook"] == "cannot tell yet"
    status = _status(crowd)
    assert status["audit_labels"] == version.metrics["measures"]["label"]["held_out"]["n"]
    accuracy, forecast, stop, choosing = status["outlook"]["sentences"]
    assert accuracy.startswith("Accuracy ")
    assert forecast.startswith("Cannot tell yet what 95% takes: at least ")
    assert stop.startswith("Cannot tell yet whether to stop: 3 more comparisons")
    missing = 50 - point["groups"]
    assert choosing == (
        f"Cannot tell yet whether choosing pays: {missing} more audit labels are needed."
    )


def test_a_random_queue_is_not_compared(crowd: Studio) -> None:
    by_chance = crowd.settings.model_copy(update={"strategy": "random"})
    crowd.loop.tools.fetcher.close()
    crowd.loop = type(crowd.loop)(by_chance, crowd.store, crowd.client, crowd.engine)
    crowd.settle()
    _label(crowd, 150, lambda task: CLASSES[task % 3])
    project = crowd.settle()
    assert project.payoff == {
        "checked": 1,
        "controls": {},
        "choose": True,
        "sentence": project.payoff["sentence"],
    }
    assert not [s for s in _status(crowd)["outlook"]["sentences"] if "choos" in s]
