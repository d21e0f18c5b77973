"""Suspicious labels: what the trainer's check finds, keeps and shows."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from backend.dataset import labelled_images
from backend.quality import quality_json
from backend.quality_steps import last_of_the_first
from backend.settings import Settings
from backend.store import Store
from backend.suspicious import check_labels, looked_at, suspicious_json
from backend.sync import controls_of
from backend.tables import ImageSource, Label, QualityCheck, Vote
from backend.task_rows import source_key
from backend.working_copies import WorkingCopies
from tests.backend.conftest import BACKBONE, Tables, digest_of
from tests.backend.databases import both_databases
from tests.backend.loop_project import CLASSES, MakeLoop, config, fill
from tests.backend.served_app import client_of
from tests.backend.small_label_studio import PatternEngine, SmallLabelStudio

HOSTILE = "<script>alert('x')</script>"


def vote(
    store: Store, task: int, annotator: int, choice: str, seconds: float | None = None
) -> None:
    with store.write() as session:
        session.add(
            Vote(
                project_id=1,
                task_id=task,
                annotation_id=1000 * annotator + task,
                annotator=annotator,
                choices={"label": [choice]},
                seconds=seconds,
            )
        )


def keep(store: Store, *entries: dict[str, object], labels: int = 60) -> None:
    with store.write() as session:
        session.add(
            QualityCheck(
                project_id=1,
                mark="m",
                checked_at=10.0,
                seconds=1.0,
                labels=labels,
                suspicious=list(entries),
                drift={},
            )
        )


def entry(task: int, given: str, likely: str = "owl") -> dict[str, object]:
    return {
        "task": task,
        "control": "label",
        "given": [given],
        "likely": [likely],
        "probability": 0.75,
        "doubt": 0.8,
        "reasons": ["model", "people"],
    }


def test_a_wrong_label_a_dispute_a_duplicate_and_a_tie_are_found(tables: Tables) -> None:
    classes = tables.clusters(60)
    for n, name in enumerate(classes):
        tables.label(n + 1, "owl" if n == 3 else name)  # task 4 is a cat
    # Task 8 is a dog, though one of three says owl; on task 9 people tie.
    for annotator, said in enumerate(("dog", "dog", "owl")):
        vote(tables.store, 8, annotator, said)
    tables.label(9, "cat", "dog", status="tied")
    # Task 61 shows nearly what task 2 shows, a dog, and is called a cat.
    tables.task(61, np.eye(3, 16)[1] * 2, leader=digest_of(2))
    tables.label(61, "cat")
    with tables.store.read() as session:
        looked = looked_at(session, tables.project(), BACKBONE, 0.1)
    found = {each["task"]: each for each in check_labels(looked, seed=0)}
    assert set(found) == {2, 4, 8, 9, 61}
    assert found[61]["reasons"] == ["model", "near-duplicate"]
    assert (found[61]["given"], found[61]["likely"]) == (["cat"], ["dog"])
    assert found[61]["doubt"] == 1
    assert (found[2]["reasons"], found[2]["doubt"]) == (["near-duplicate"], 1)
    assert (found[4]["given"], found[4]["likely"]) == (["owl"], ["cat"])
    assert found[4]["reasons"] == ["model"]
    assert found[4]["probability"] > 0.5
    assert found[4]["doubt"] > 0.5
    assert (found[8]["reasons"], found[8]["doubt"]) == (["people"], pytest.approx(1 / 3))
    assert (found[9]["given"], found[9]["likely"]) == (["cat", "dog"], ["owl"])
    assert found[9]["doubt"] == 0.5
    doubts = [each["doubt"] for each in check_labels(looked, seed=0)]
    assert doubts == sorted(doubts, reverse=True)


def test_labels_of_the_audit_set_are_checked_too(tables: Tables) -> None:
    classes = tables.clusters(60)
    for n, name in enumerate(classes):
        tables.label(n + 1, name)
    with tables.store.read() as session:
        project = tables.project()
        (control,) = controls_of(project)
        part = labelled_images(session, project, control, BACKBONE, 0.3)
    audited = int(part.task_ids[part.held_out][0])
    right = classes[audited - 1]
    wrong = next(name for name in CLASSES if name != right)
    tables.label(audited, wrong)
    with tables.store.read() as session:
        looked = looked_at(session, tables.project(), BACKBONE, 0.3)
    (found,) = check_labels(looked, seed=0)
    assert (found["task"], found["given"], found["likely"]) == (audited, [wrong], [right])


@both_databases
def test_what_was_put_right_leaves_the_list(store: Store) -> None:
    tables = Tables(store)
    tables.task(1)
    tables.task(2)
    tables.label(1, "cat")
    tables.label(2, "cat")
    keep(store, entry(1, "cat"), entry(2, "dog"), entry(3, "cat"))
    with store.read() as session:
        found = suspicious_json(session, 1)
    assert [each["task"] for each in found["suspicious"]] == [1]
    assert (found["checked_at"], found["labels"]) == (10.0, 60)


def test_the_trainer_checks_once_for_each_change(
    small_label_studio: SmallLabelStudio, make_loop: MakeLoop
) -> None:
    fill(small_label_studio, 60, labelled=45)
    small_label_studio.annotate(4, label=["cat"])  # it is a dog's colour
    loop = make_loop(quiet_seconds=0.0, transfer="features")
    loop.settle()

    def check() -> QualityCheck:
        with loop.tools.store.read() as session:
            return session.get_one(QualityCheck, 1)

    first = check()
    assert first.labels == 45
    # One-coloured pictures are near-duplicates of each other: all of one colour are in doubt.
    worst = first.suspicious[0]
    assert (worst["task"], worst["given"], worst["doubt"]) == (4, ["cat"], 1)
    assert "near-duplicate" in worst["reasons"]
    assert first.drift["image"]["differs"] is None
    loop.settle()
    assert check().checked_at == first.checked_at
    # Put right, it is learned and checked again, but not at once.
    small_label_studio.annotate(4, label=["dog"])
    for task in range(46, 58):
        small_label_studio.annotate(task, label=[CLASSES[task % 3]])
    loop.settle()
    with loop.tools.store.write() as session:
        session.get_one(QualityCheck, 1).checked_at = 0.0
    loop.settle()
    assert (check().labels, check().suspicious) == (57, [])


def test_what_each_annotator_says_is_kept(
    small_label_studio: SmallLabelStudio, make_loop: MakeLoop
) -> None:
    fill(small_label_studio, 3, labelled=1)
    (first,) = small_label_studio.tasks[1]["annotations"]
    first |= {"id": 11, "lead_time": 7.5}
    second = json.loads(json.dumps(first)) | {"id": 12, "completed_by": 2, "lead_time": None}
    second["result"][0]["value"]["choices"] = ["owl"]
    small_label_studio.tasks[1]["annotations"] = [first, second]
    loop = make_loop()
    loop.settle()

    def votes() -> list[tuple[int, int | None, dict[str, list[str]], float | None]]:
        with loop.tools.store.read() as session:
            rows = session.query(Vote).order_by(Vote.annotation_id)
            return [(r.annotation_id, r.annotator, r.choices, r.seconds) for r in rows]

    said = CLASSES[1]
    assert votes() == [(11, 1, {"label": [said]}, 7.5), (12, 2, {"label": ["owl"]}, None)]
    small_label_studio.annotate(1, label=["dog"])
    loop.settle()
    assert votes() == [(1, 1, {"label": ["dog"]}, None)]
    del small_label_studio.tasks[1]
    loop.settle()
    assert votes() == []


def test_new_images_are_those_that_came_after_the_first_version(
    small_label_studio: SmallLabelStudio, make_loop: MakeLoop
) -> None:
    # As from a folder that is sorted: unlike in the order in which they came.
    generator = np.random.default_rng(2)

    def add(tasks: range, bright: int) -> None:
        for task in tasks:
            pixels = generator.choice([0, 255], (4, 4)).astype(np.uint8)
            pixels[bright] = 255
            picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
            small_label_studio.add_picture(task, picture.convert("RGB"))

    small_label_studio.project["label_config"] = config(*CLASSES)
    add(range(1, 41), 0)
    add(range(41, 81), 1)
    for task in (*range(1, 7), *range(75, 81)):
        small_label_studio.annotate(task, label=["cat" if task < 40 else "dog"])
    loop = make_loop(PatternEngine(), quiet_seconds=0.0, transfer="features")

    def drift() -> dict[str, object]:
        assert loop.settle().champion
        with loop.tools.store.read() as session:
            return dict(session.get_one(QualityCheck, 1).drift["image"])

    found = drift()
    assert (found["new"], found["differs"]) == (0, None)
    with loop.tools.store.read() as session:
        (said,) = quality_json(session, 1)["drift"]
        assert last_of_the_first(session, 1) == 80
    assert said["sentence"] == "image: no image has come since the first version was trained."
    add(range(81, 121), 2)
    with loop.tools.store.write() as session:
        session.get_one(QualityCheck, 1).checked_at = 0.0
    for task in range(7, 19):
        small_label_studio.annotate(task, label=["cat"])
    found = drift()
    assert found["new"] == 40
    assert found["differs"] is True


def test_agreement_and_time_are_said(tables: Tables) -> None:
    # As by hand in tests/model/test_agreement.py: alpha is 0.61.
    pairs = [("cat", "cat")] * 8 + [("dog", "dog")] * 8 + [("cat", "dog")] * 4
    for task, (one, other) in enumerate(pairs, 1):
        vote(tables.store, task, 1, one, 60.0 * task)
        vote(tables.store, task, 2, other, 5000.0)
    with tables.store.read() as session:
        found = quality_json(session, 1)
    (agreement,) = found["agreement"]
    assert agreement["alpha"] == pytest.approx(0.61)
    assert agreement["sentence"].startswith("label: people agree with alpha 0.61 (0.")
    assert agreement["sentence"].endswith("on 20 images that several people labelled.")
    # Those that stayed open for over an hour are left out: 1 to 20 minutes are left.
    seconds = found["seconds"]
    assert (seconds["value"], seconds["low"], seconds["high"], seconds["n"]) == (630, 360, 900, 20)
    assert [each["annotator"] for each in seconds["annotators"]] == [1]
    assert seconds["sentence"] == (
        "Half of the labels take 10 minutes or less (6 to 15), of 20 that were timed."
    )


def test_the_projects_page_says_how_people_label(client: FlaskClient, tables: Tables) -> None:
    assert "Cannot tell yet how long a label takes." in client.get("/projects/1").text
    for task in range(1, 21):
        vote(tables.store, task, 1, "cat", 60.0 * task)
        vote(tables.store, task, 2, "cat", 30.0)
    vote(tables.store, 21, 3, "cat", 12.0)
    read = re.sub(r"<[^>]*>|\s+", " ", client.get("/projects/1").text)
    read = " ".join(read.split())
    # Of 20, ranks 6 and 15 hold the median; one label is too few.
    for row in ("1 20 630.0 360.0 to 900.0", "2 20 30.0 30.0 to 30.0", "3 1 cannot tell yet"):
        assert row in read
    # Of all 41, 30 seconds and below are 21.
    assert "Half of the labels take 30 seconds or less (30 to " in read
    assert "how far people agree, from 20 images that several people labelled" in read


def test_the_routes_answer_before_anything_was_checked(client: FlaskClient, tables: Tables) -> None:
    assert client.get("/api/projects/1/suspicious").json == {
        "checked_at": None,
        "labels": 0,
        "suspicious": [],
    }
    said = client.get("/api/projects/1/quality").json
    assert said is not None
    assert said["seconds"]["sentence"] == "Cannot tell yet how long a label takes."
    assert "Nothing has been checked yet." in client.get("/projects/1/suspicious").text
    for path in ("/api/projects/2/suspicious", "/api/projects/2/quality", "/projects/2/suspicious"):
        assert client.get(path).status_code == 404
    answer = client.post("/api/projects/1/suspicious/tab", json={})
    assert (answer.status_code, answer.json["code"]) == (422, "nothing_suspicious")  # type: ignore[index]
    assert client.post("/api/projects/1/suspicious/tab", json={"most": 0}).status_code == 400


def test_the_page_shows_what_was_found(client: FlaskClient, tables: Tables) -> None:
    tables.task(1)
    tables.label(1, HOSTILE)
    keep(tables.store, entry(1, HOSTILE))
    text = client.get("/projects/1/suspicious").text
    assert HOSTILE not in text
    read = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    assert "Of 60 labels checked, 1 is worth a second look" in read
    assert f"{HOSTILE} task 1 in Label Studio owl 75%" in read
    assert "a model that never saw this label says otherwise annotators disagree 0.80" in read
    assert "/projects/1/thumbnails/1?key=image" in text
    assert 'aria-current="page">Suspicious labels<' in text


def test_thumbnails(client: FlaskClient, tables: Tables, settings: Settings) -> None:
    from PIL import Image

    tables.task(1)
    assert client.get("/projects/1/thumbnails/1").status_code == 404
    picture = Path(settings.data_dir) / "picture.png"
    Image.new("RGB", (400, 300), (200, 10, 10)).save(picture)
    copies = WorkingCopies(settings.working_copies, settings.working_copy_side)
    digest = copies.put(picture.read_bytes())
    with tables.store.write() as session:
        session.add(ImageSource(source=source_key("/data/1.png"), digest=digest))
    for path in ("/projects/1/thumbnails/1", "/projects/1/thumbnails/1?key=image"):
        answer = client.get(path)
        assert answer.mimetype == "image/jpeg"
        (Path(settings.data_dir) / "small.jpg").write_bytes(answer.data)
        with Image.open(Path(settings.data_dir) / "small.jpg") as small:
            assert small.size == (192, 144)
            assert small.getpixel((50, 50)) == pytest.approx((200, 10, 10), abs=3)
    for path in ("1/thumbnails/1?key=other", "1/thumbnails/2", f"1/thumbnails/{2**40}"):
        assert client.get(f"/projects/{path}").status_code == 404
    assert client.get("/projects/1/thumbnails/1?key=%00").status_code == 404


def test_without_label_studio_no_tab_is_made(client: FlaskClient, tables: Tables) -> None:
    tables.task(1)
    tables.label(1, "cat")
    keep(tables.store, entry(1, "cat"))
    answer = client.post("/api/projects/1/suspicious/tab", json={"most": 5})
    assert (answer.status_code, answer.json["code"]) == (503, "label_studio")  # type: ignore[index]


def test_labels_of_a_config_that_has_changed_are_not_shown(
    settings: Settings, tables: Tables
) -> None:
    tables.task(1)
    tables.label(1, "cat")
    keep(tables.store, entry(1, "cat"))
    with tables.store.write() as session:
        session.get_one(Label, (1, 1, "label")).status = "gone"
        session.get_one(Label, (1, 1, "label")).choices = []
    with client_of(settings) as client:
        said = client.get("/api/projects/1/suspicious").json
    assert said is not None
    assert said["suspicious"] == []
