"""Labelled data as folders, CSV and COCO's JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.read_data import read_labelled_data
from backend.settings import Settings
from backend.store import Store
from backend.tables import ImageGroup, ImageSource, Task, TaskImage
from backend.task_rows import source_key
from backend.working_copies import working_copies
from model.audit import in_audit
from tests.backend.conftest import Tables

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="kind" toName="image"><Choice value="cat"/><Choice value="a/b"/>
<Choice value="A:B"/></Choices>
<Choices name="tags" toName="image" choice="multiple"><Choice value="day"/>
<Choice value="../night"/></Choices></View>"""

SIZES = {1: (40, 30), 2: (100, 400), 3: (600, 300), 4: (32, 32)}
"""Task → width and height of its image."""
COPIES = {1: (40, 30), 2: (100, 400), 3: (576, 288), 4: (32, 32)}
"""The same of its working copy, with a shorter side of at most 288."""


def _png(task: int) -> bytes:
    width, height = SIZES[task]
    pixels = np.random.default_rng(task).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def labelled(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Tables:
    """Four tasks with an image and one without, labelled for two controls."""
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("COLUMNS", "200")
    tables = Tables(store, CONFIG)
    copies = working_copies(settings)
    for task in SIZES:
        _add_task(store, task, copies.put(_png(task)))
    _add_task(store, 5, None)
    for task, kind in ((1, "cat"), (2, "a/b"), (3, "A:B"), (5, "cat")):
        tables.label(task, kind, control="kind")
    tables.label(4, "cat", "a/b", control="kind", status="tied")
    tables.label(1, "../night", "day", control="tags")
    tables.label(2, control="tags")
    tables.label(3, "day", control="tags")
    tables.label(3, "day", control="removed")
    tables.label(4, control="tags", status="gone")
    return tables


def _add_task(store: Store, task: int, digest: str | None) -> None:
    uri = f"http://me:secret@photos.example/{task}.png?token=secret"
    source = source_key(uri)
    with store.write() as session:
        session.add(Task(project_id=1, id=task))
        session.add(TaskImage(project_id=1, task_id=task, data_key="image", uri=uri, source=source))
        if digest is not None:
            session.add(ImageSource(source=source, digest=digest))
            session.add(ImageGroup(project_id=1, digest=digest, leader=digest))


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def _export(to: Path) -> dict[str, Any]:
    result = _run(1, "--to", to, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def _files(folder: Path) -> Sequence[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_every_file_is_where_it_is_said_to_be(labelled: Tables, tmp_path: Path) -> None:
    found = _export(tmp_path / "out")
    assert _files(tmp_path / "out") == [
        "classes/kind/A_B-2/3.jpg",
        "classes/kind/a_b/2.jpg",
        "classes/kind/cat/1.png",
        "classes/tags/_night/1.png",
        "classes/tags/day/1.png",
        "classes/tags/day/3.jpg",
        "coco/kind.json",
        "coco/tags.json",
        "export.json",
        "images/1.png",
        "images/2.jpg",
        "images/3.jpg",
        "labels.csv",
    ]
    assert (found["labels"], found["images"]) == (7, 3)
    assert found["controls"]["kind"]["classes"] == {"cat": "cat", "a/b": "a_b", "A:B": "A_B-2"}
    assert found["left_out"] == {"tied": 1, "control not in the config": 1}
    assert [missing["task"] for missing in found["images_missing"]] == [5]
    assert found["sentence"] == f"7 labels of 3 images are in {tmp_path / 'out'}."
    assert json.loads((tmp_path / "out" / "export.json").read_text())["kind"] == "labels"


def test_images_are_the_working_copies_byte_by_byte(
    labelled: Tables, settings: Settings, tmp_path: Path
) -> None:
    _export(tmp_path / "out")
    copies = working_copies(settings)
    for task in (1, 2, 3):
        (path,) = (tmp_path / "out" / "images").glob(f"{task}.*")
        with labelled.store.read() as session:
            source = session.get_one(TaskImage, (1, task, "image")).source
            digest = session.get_one(ImageSource, source).digest
        assert path.read_bytes() == copies.path(digest or "").read_bytes()
        assert _size(path) == COPIES[task]


def test_the_csv_has_a_row_for_each_label(
    labelled: Tables, settings: Settings, tmp_path: Path
) -> None:
    _export(tmp_path / "out")
    text = (tmp_path / "out" / "labels.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(r["task"], r["control"], json.loads(r["choices"])) for r in rows] == [
        ("1", "kind", ["cat"]),
        ("1", "tags", ["day", "../night"]),
        ("2", "kind", ["a/b"]),
        ("2", "tags", []),
        ("3", "kind", ["A:B"]),
        ("3", "tags", ["day"]),
        ("5", "kind", ["cat"]),
    ]
    assert [r["image"] for r in rows][-2:] == ["images/3.jpg", ""]
    assert (rows[4]["width"], rows[4]["height"]) == ("576", "288")
    assert rows[0]["source"] == "http://photos.example/1.png"
    assert "secret" not in text
    for row in rows:
        audit = bool(row["sha256"]) and in_audit(row["sha256"], settings.audit_share)
        assert row["part"] == ("audit" if audit else "train")


def test_coco_has_an_annotation_for_each_class_of_an_image(
    labelled: Tables, tmp_path: Path
) -> None:
    _export(tmp_path / "out")
    content = json.loads((tmp_path / "out" / "coco" / "tags.json").read_text(encoding="utf-8"))
    assert content["categories"] == [
        {"id": 1, "name": "day", "supercategory": "tags"},
        {"id": 2, "name": "../night", "supercategory": "tags"},
    ]
    images = [(i["id"], i["file_name"], i["width"], i["height"]) for i in content["images"]]
    assert images == [
        (1, "images/1.png", 40, 30),
        (2, "images/2.jpg", 100, 400),
        (3, "images/3.jpg", 576, 288),
    ]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in content["annotations"]] == [
        (1, 1, 1),
        (2, 1, 2),
        (3, 3, 1),
    ]
    assert content["annotations"][2]["bbox"] == [0, 0, 576, 288]
    assert content["annotations"][2]["area"] == 576 * 288
    kinds = json.loads((tmp_path / "out" / "coco" / "kind.json").read_text(encoding="utf-8"))
    assert [(a["image_id"], a["category_id"]) for a in kinds["annotations"]] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_class_folders_are_data_to_learn_from(
    labelled: Tables, settings: Settings, tmp_path: Path
) -> None:
    for task in (1, 2):
        labelled.label(task, "cat", control="kind")
    labelled.label(4, "A:B", control="kind")
    _export(tmp_path / "out")
    data = read_labelled_data(
        tmp_path / "out" / "classes" / "kind", seed=0, side=288, max_pixels=10**6
    )
    assert data.classes == ("A_B-2", "cat")
    assert len(data.train) + len(data.test) == 4


def test_a_damaged_copy_is_left_out_and_named(
    labelled: Tables, settings: Settings, tmp_path: Path
) -> None:
    copies = settings.working_copies.rglob("*.png")
    first = next(path for path in copies if _size(path) == (40, 30))
    first.write_bytes(first.read_bytes()[:200])
    found = _export(tmp_path / "out")
    assert sorted(m["task"] for m in found["images_missing"]) == [1, 5]
    assert not (tmp_path / "out" / "images" / "1.png").exists()
    result = _run(1, "--to", tmp_path / "out")
    assert "2 images could not be had; task 1" in result.stderr


def test_a_second_export_replaces_the_first(labelled: Tables, tmp_path: Path) -> None:
    _export(tmp_path / "out")
    labelled.label(2, "cat", control="kind")
    _export(tmp_path / "out")
    assert "classes/kind/cat/2.jpg" in _files(tmp_path / "out")
    assert "classes/kind/a_b/2.jpg" not in _files(tmp_path / "out")


def test_a_folder_of_others_is_refused_with_the_mend(labelled: Tables, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = _run(1, "--to", tmp_path)
    assert result.exit_code == 1
    assert "Give --to a folder that is not there yet" in result.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_without_labels_nothing_is_made(
    tables: Tables, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    result = _run(1, "--to", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["mend"] == "Label some images first."
    assert not (tmp_path / "out").exists()
