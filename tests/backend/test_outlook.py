"""What lies ahead of a version, from the versions before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backend.outlook import Chain, agreement, outlook_of
from backend.outlook_text import outlook_json
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import Project, Version
from backend.version_metrics import OUTLOOK
from model.forecast import forecast
from model.head import Head
from model.learning_curve import AuditPoint
from model.stopping import Agreement
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.saved_versions import save_version

COUNTS = [(60, 20, 30), (110, 28, 40), (170, 38, 50), (260, 49, 60), (400, 62, 75)]
"""Labels learned from, and right answers on how many audit labels."""


def add_version(
    tables: Tables,
    number: int,
    point: tuple[int, int, int],
    *,
    backbone: str = BACKBONE,
    **kept: Any,
) -> Version:
    labels, right, audited = point
    value = {"value": right / audited, "low": 0.5, "high": 0.9, "n": audited}
    metrics: dict[str, Any] = {
        "measures": {"label": {"held_out": {"n": audited, "accuracy": value}}},
        "audit": {
            "label": {"labels": labels, "right": right, "audited": audited, "groups": audited}
        },
    }
    row = Version(
        project_id=1,
        number=number,
        created_at=0.0,
        kept=True,
        reason="",
        labels=labels + audited,
        backbone=backbone,
        metrics=metrics | kept,
    )
    with tables.store.write() as session:
        session.add(row)
    return row


def ahead(tables: Tables, settings: Settings, number: int) -> dict[str, Any]:
    """Find what lies ahead of a version, and keep it with the version."""
    with tables.store.write() as session:
        project = session.get_one(Project, 1)
        version = session.get_one(Version, (1, number))
        found = outlook_of(session, project, controls_of(project), version, settings)
        version.metrics = {**version.metrics, OUTLOOK: found}
    return found


def test_the_forecast_is_made_from_the_versions_on_the_same_network(
    tables: Tables, settings: Settings
) -> None:
    goal = settings.model_copy(update={"target_accuracy": 0.9})
    add_version(tables, 1, (50, 5, 60), backbone="another")
    for number, point in enumerate(COUNTS, start=2):
        add_version(tables, number, point)
    add_version(tables, 7, (900, 10, 90))
    found = ahead(tables, goal, 6)
    [expected] = forecast([AuditPoint(*point) for point in COUNTS], [0.9])
    kept = found["forecasts"]["label"]
    assert kept["sentence"] == expected.sentence
    assert (kept["low"], kept["high"], kept["target"]) == (expected.low, expected.high, 0.9)
    assert expected.high is None or expected.high > 0
    assert found["stop"]["stop"] is None
    assert "3 more comparisons" in found["stop"]["sentence"]
    # Of the first two versions nothing can be told.
    early = ahead(tables, goal, 3)["forecasts"]["label"]
    assert early["outlook"] == "cannot tell yet"
    assert early["sentence"].endswith("at least 1 more version with new labels is needed.")


def leaning(*columns: int) -> Head:
    """Says cat, dog or owl where the first, second or third of these features is the largest."""
    weights = np.zeros((16, 3), dtype=np.float32)
    for position, column in enumerate(columns):
        weights[column, position] = 5
    zeros, one = np.zeros(3, dtype=np.float32), np.ones(1, dtype=np.float32)
    return Head(("cat", "dog", "owl"), False, weights, zeros, one)


def test_versions_are_compared_on_images_without_a_label(
    tables: Tables, settings: Settings
) -> None:
    # Twelve images, four of each class, of which three are labelled.
    for n in range(1, 13):
        tables.task(n, np.eye(3, 16)[n % 3])
    for n in (1, 2, 3):
        tables.label(n, "cat")
    save_version(tables, settings, 1, backbone=BACKBONE, heads={"label": leaning(0, 1, 2)})
    save_version(tables, settings, 2, backbone=BACKBONE, heads={"label": leaning(1, 0, 2)})
    save_version(tables, settings, 3, backbone="another", heads={"label": leaning(0, 1, 2)})
    project = tables.project()

    def kappa_of(*numbers: int) -> float | None:
        with tables.store.read() as session:
            controls = controls_of(project)
            return agreement(session, project, controls, settings, (numbers[0], numbers[1]))

    assert kappa_of(1, 1) == pytest.approx(1)
    # They agree on the three owls of nine; by chance 3 (1/3)^2 = 1/3 would do: (1/3 - 1/3) / (2/3).
    assert kappa_of(1, 2) == pytest.approx(0)
    assert kappa_of(1, 3) is None
    assert kappa_of(1, 9) is None


def test_the_chain_grows_by_a_hundred_labels(tables: Tables, settings: Settings) -> None:
    for n in range(1, 13):
        tables.task(n, np.eye(3, 16)[n % 3])
    learned = [60, 110, 165, 250, 270, 380, 300, 420]
    for number, labels in enumerate(learned, start=1):
        save_version(tables, settings, number, backbone=BACKBONE, heads={"label": leaning(0, 1, 2)})
        with tables.store.write() as session:
            row = session.get_one(Version, (1, number))
            point = {"labels": labels, "right": 45, "audited": 50, "groups": 50}
            row.metrics = {"audit": {"label": point}}
    chains = [Chain.read(ahead(tables, settings, n)["chain"]) for n in range(1, 9)]
    assert [chain.version for chain in chains] == [1, 1, 3, 3, 5, 6, 7, 8]
    assert chains[-1].agreements == (
        Agreement(165, 270, 1.0),
        Agreement(270, 380, 1.0),
        Agreement(300, 420, 1.0),
    )
    stop = tables_stop(tables)
    assert stop["agreement"] == 1.0
    assert stop["sentence"].split(":")[0] in ("Go on labelling", "Labelling more hardly pays")


def tables_stop(tables: Tables) -> dict[str, Any]:
    with tables.store.read() as session:
        found: dict[str, Any] = session.get_one(Version, (1, 8)).metrics[OUTLOOK]["stop"]
        return found


def test_what_is_read(tables: Tables) -> None:
    project = tables.project()
    controls = controls_of(project)
    assert outlook_json(project, controls, None, None)["sentences"] == [
        "Cannot tell the accuracy yet: no version has been measured."
    ]
    forecasts = {"label": {"sentence": "95% takes about 340 to 520 more labels."}}
    stop = {"stop": None, "sentence": "Cannot tell yet whether to stop: so it is."}
    kept = {OUTLOOK: {"forecasts": forecasts, "stop": stop}}
    version = add_version(tables, 1, (100, 44, 50), **kept)
    first = {"difference": None, "sentence": "Cannot tell yet whether choosing pays: 9."}
    project.payoff = {
        "choose": True,
        "sentence": "",
        "controls": {"label": {"shown": {"first": first, "last": first}}},
    }
    assert outlook_json(project, controls, version, version)["sentences"] == [
        "Accuracy 88.0% (50.0% to 90.0%) on 50 audit labels.",
        "95% takes about 340 to 520 more labels.",
        "Cannot tell yet whether to stop: so it is.",
        "Cannot tell yet whether choosing pays: 9.",
    ]
    project.choosing = False
    project.payoff = {**project.payoff, "sentence": "The order is random until 400."}
    last = outlook_json(project, controls, version, version)["sentences"][-1]
    assert last == "The order is random until 400."


def test_few_audit_labels_cannot_tell(tables: Tables) -> None:
    number = {"value": None, "low": None, "high": None, "n": 7}
    number |= {"reason": "cannot tell yet: 7 of 10 labels"}
    measures = {"label": {"held_out": {"n": 7, "accuracy": number}}}
    version = add_version(tables, 1, (100, 0, 7), measures=measures)
    project = tables.project()
    found = outlook_json(project, controls_of(project), version, version)
    assert found["sentences"] == ["Cannot tell the accuracy yet: there are 7 of 10 audit labels."]


def test_a_control_of_another_kind_has_not_been_measured(tables: Tables) -> None:
    version = add_version(tables, 1, (100, 44, 50))
    project = tables.project()
    several = [replace(control, multiple=True) for control in controls_of(project)]
    assert outlook_json(project, several, version, version)["accuracy"] == []
