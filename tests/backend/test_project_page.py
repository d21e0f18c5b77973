from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
from flask.testing import FlaskClient

from backend.audit_answers import answers_behind
from backend.class_balance import class_balance
from backend.label_config import parse_label_config
from backend.measures_text import NAMES
from backend.project_figures import learning_figure
from backend.project_view import Cell, confusion_of, control_views, curve_points, random_points
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of
from backend.tables import Project, Version
from model.audit import in_audit
from model.metrics import wilson_interval
from tests.backend.conftest import Tables, digest_of
from tests.backend.measured_project import (
    AUDIT_SHARE,
    CLASSES,
    HOSTILE,
    LABELLED,
    LEARNED,
)

Measured = tuple[FlaskClient, Store, Settings]


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def audited() -> list[int]:
    return [n for n in range(1, LABELLED + 1) if in_audit(digest_of(n), AUDIT_SHARE)]


def test_every_number_of_the_page_is_that_of_the_audit_set(
    measured: Measured,
) -> None:
    page, store, _ = measured
    text = page.get("/projects/1").text
    read = words(text)
    with store.read() as session:
        held = session.get_one(Version, (1, 3)).metrics["measures"]["label"]["held_out"]
    assert held["n"] == len(audited())
    share = held["accuracy"]
    shown = f"accuracy {share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})"
    assert shown in read
    assert f"v3 v{len(LEARNED)}" not in read
    # The confusion matrix: every count that is not 0 is a link to its images.
    for truth, row in zip(CLASSES, held["confusion"], strict=True):
        for said, count in zip(CLASSES, row, strict=True):
            link = f"/projects/1/answers?control=label&amp;truth={truth}&amp;said={said}"
            assert (f'href="{link}">{count}<' in text) == (count > 0)


def test_the_plots_hold_the_points_of_the_tables(measured: Measured) -> None:
    page, store, _ = measured
    text = page.get("/projects/1").text
    figures = [json.loads(html.unescape(f)) for f in re.findall(r'data-figure="([^"]*)"', text)]
    curve, calibration = figures
    line = next(trace for trace in curve["data"] if trace.get("name") == "trained versions")
    assert line["x"] == list(LEARNED)
    with store.read() as session:
        points = [session.get_one(Version, (1, n + 1)).metrics["audit"]["label"] for n in range(4)]
    assert line["y"] == pytest.approx([100 * p["right"] / p["audited"] for p in points])
    dots = calibration["data"][1]
    assert len(dots["x"]) == len(audited()) // 20
    assert dots["x"] == sorted(dots["x"])


def test_a_cell_opens_the_images_behind_it(measured: Measured) -> None:
    page, store, _ = measured
    with store.read() as session:
        held = session.get_one(Version, (1, 3)).metrics["measures"]["label"]["held_out"]
    found: list[int] = []
    for i, truth in enumerate(CLASSES):
        for j, said in enumerate(CLASSES):
            query = {"control": "label", "truth": truth, "said": said}
            text = page.get("/projects/1/answers", query_string=query).text
            tasks = [int(n) for n in re.findall(r"/projects/1/data\?task=(\d+)", text)]
            assert len(tasks) == held["confusion"][i][j]
            assert all((task - 1) % 3 == i for task in tasks)
            found += tasks
    assert sorted(found) == audited()


def test_addresses_that_name_nothing_are_refused(measured: Measured) -> None:
    page, _, _ = measured
    assert page.get("/projects/2").status_code == 404
    assert page.get("/projects/99999999999999999999").status_code == 404
    for query in ("", "control=label", "control=x&truth=cat&said=dog"):
        assert page.get(f"/projects/1/answers?{query}").status_code == 404
    said = page.get(f"/projects/1/answers?control=label&truth={HOSTILE}&said=cat").text
    assert "There is no such image now" in said
    assert HOSTILE not in said


def test_why_no_measure_is_told_is_the_reason_of_the_training(measured: Measured) -> None:
    page, store, _ = measured
    reason = "cannot tell yet: 7 of 10 labels, near-duplicates counted once"
    unknown = {"value": None, "low": None, "high": None, "n": 25, "reason": reason}
    with store.write() as session:
        version = session.get_one(Version, (1, 3))
        held = version.metrics["measures"]["label"]["held_out"]
        untold = held | {name: unknown for name in NAMES if name in held}
        version.metrics = version.metrics | {"measures": {"label": {"held_out": untold}}}
    read = words(page.get("/projects/1").text)
    assert (
        "Accuracy, F1 and the other measures of v3 on the audit labels cannot be told yet: "
        "7 of 10 labels, near-duplicates counted once."
    ) in read
    assert "and there are" not in read


def test_files_that_are_gone_are_told(measured: Measured) -> None:
    page, store, _ = measured
    with store.write() as session:
        session.get_one(Version, (1, 3)).pruned = True
    answer = page.get("/projects/1/answers?control=label&truth=cat&said=dog")
    assert (answer.status_code, answer.json["code"]) == (422, "no_files")


def test_nothing_is_told_before_it_can_be(tables: Tables, client: FlaskClient) -> None:
    read = words(client.get("/projects/1").text)
    assert "Cannot tell yet: no version has been measured on at least 10" in read
    assert "Cannot tell yet: 0 of 100 audit labels." in read
    assert "Cannot tell yet: v0 has not been measured on audit labels." in read
    # Said once, and not of each class.
    assert "How common each is in the whole pool cannot be told yet from 0 audit labels." in read
    assert "cannot tell yet" not in read
    for name in CLASSES:
        assert f" {name} 0 " in read
    assert "data-figure" not in client.get("/projects/1").text


def test_the_balance_of_the_pool_stands_on_the_audit_labels_alone(
    tables: Tables, store: Store
) -> None:
    # Picked labels are all cats; the audit labels are half dogs.
    audit = [n for n in range(1, 400) if in_audit(digest_of(n), 0.2)][:40]
    others = [n for n in range(1, 400) if not in_audit(digest_of(n), 0.2)][:60]
    for place, n in enumerate(audit):
        tables.task(n, np.zeros(4))
        tables.label(n, "dog" if place % 2 else "owl")
    for n in others:
        tables.task(n, np.zeros(4))
        tables.label(n, "cat")
    with store.read() as session:
        project = session.get_one(Project, 1)
        found = class_balance(session, project, controls_of(project)[0], 0.2)
    assert (found.labels, found.audited, found.largest) == (100, 40, 60)
    cat, dog, owl = found.classes
    assert (cat.labels, dog.labels, owl.labels) == (60, 20, 20)
    assert (cat.pool.value, dog.pool.value, owl.pool.value) == (0, 0.5, 0.5)
    assert (dog.pool.low, dog.pool.high) == wilson_interval(20, 40)
    assert (cat.pool.low, cat.pool.high) == wilson_interval(0, 40)


def test_few_audit_labels_do_not_tell_the_balance(tables: Tables, store: Store) -> None:
    audit = [n for n in range(1, 400) if in_audit(digest_of(n), 0.2)][:9]
    for n in audit:
        tables.task(n, np.zeros(4))
        tables.label(n, "cat")
    with store.read() as session:
        project = session.get_one(Project, 1)
        found = class_balance(session, project, controls_of(project)[0], 0.2)
    assert [each.pool.value for each in found.classes] == [None, None, None]


def test_the_curve_leaves_out_what_was_not_measured() -> None:
    audit = [
        (1, {"label": {"labels": 20, "right": 0, "audited": 0, "groups": 3}}),
        (2, {}),
        (4, {"label": {"labels": 60, "right": 30, "audited": 40, "groups": 40}}),
        (3, {"label": {"labels": 40, "right": 15, "audited": 30, "groups": 30}}),
    ]
    points = curve_points(audit, "label")
    assert [(p.version, p.labels, p.value) for p in points] == [("v3", 40, 0.5), ("v4", 60, 0.75)]
    assert (points[1].low, points[1].high) == wilson_interval(30, 40)
    assert curve_points(audit, "other") == []


def test_a_point_that_is_alone_has_a_bar_and_room() -> None:
    audit = [(1, {"label": {"labels": 94, "right": 11, "audited": 11, "groups": 11}})]
    [point] = curve_points(audit, "label")
    _, line, goal = learning_figure([point], [], 0.95)["data"]
    assert goal["x"] == [84, 104]
    assert line["error_y"]["array"] == [0]
    assert line["error_y"]["arrayminus"] == pytest.approx([25.883], abs=1e-3)


def test_the_random_stream_is_that_of_comparisons_that_told() -> None:
    told = {
        "learned": 100,
        "compared": 40,
        "queue": 0.8,
        "random": 0.75,
        "difference": 0.05,
        "low": -0.01,
        "high": 0.11,
    }
    silent = {**told, "difference": None, "queue": None}
    kept = {"shown": {"first": silent, "last": told}, "history": [told, {**told, "learned": 50}]}
    assert [(p.labels, p.queue, p.random) for p in random_points(kept)] == [
        (90, 0.8, 0.75),
        (140, 0.8, 0.75),
    ]
    assert random_points({}) == []


def test_the_confusion_of_several_choices() -> None:
    held = {
        "n": 20,
        "multiple": True,
        "classes": ["wet", "old"],
        "confusion": [[[10, 1], [3, 6]], [[18, 0], [0, 2]]],
    }
    found = confusion_of(held)
    assert found is not None
    assert (found.rows, found.worst) == ([], [Cell("wet", "", 3), Cell("", "wet", 1)])
    assert confusion_of({**held, "n": 0}) is None
    assert confusion_of({}) is None


TAGS = """<View><Image name="image" value="$image"/>
<Choices name="tags" toName="image" choice="multiple">
<Choice value="wet"/><Choice value="old"/></Choices></View>"""


def test_images_behind_a_tag_that_was_missed_or_should_not_be(
    store: Store, settings: Settings
) -> None:
    from model.head import Head
    from tests.backend.saved_versions import embed_again, save_version

    tables, all_audit = Tables(store, TAGS), settings.model_copy(update={"audit_share": 1.0})
    # The head ticks "wet" where the first number is 1, and never "old".
    for n in range(1, 9):
        tables.task(n, np.array([n % 2, 0, 0, 1.0]))
        tables.label(n, *(["wet"] if n <= 4 else []), control="tags")
    embed_again(tables)
    weights = np.array([[12, 0], [0, 0], [0, 0], [0, 0]], dtype=np.float32)
    bias, ones = np.array([-4, -9], dtype=np.float32), np.ones(2, dtype=np.float32)
    save_version(
        tables, settings, 1, heads={"tags": Head(("wet", "old"), True, weights, bias, ones)}
    )
    (control,) = parse_label_config(TAGS).controls
    with store.read() as session:
        project = session.get_one(Project, 1)

        def behind(truth: str, said: str) -> list[int]:
            found = answers_behind(session, project, control, all_audit, truth, said)
            return sorted(answer.task for answer in found)

        assert behind("wet", "wet") == [1, 3]
        assert behind("wet", "") == [2, 4]
        assert behind("", "wet") == [5, 7]
        assert behind("", "old") == behind("old", "") == behind("none", "") == []
        views = control_views(session, project, all_audit)
    assert [view.confusion for view in views] == [None]
