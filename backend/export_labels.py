"""The labelled data of a project as a folder: class folders of images, a CSV and COCO's JSON.

The images are the working copies (:mod:`backend.working_copies`), which is what the versions
learned from; the originals stay where Label Studio has them, and the CSV says where that is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import ImageError, SetupError
from backend.exported_labels import ExportedLabel, ExportedLabels
from backend.label_config import Control
from backend.own_folder import OwnFolder
from backend.safe_names import safe_names
from backend.working_copies import WorkingCopies

KIND = "labels"
COLUMNS = (
    *("task", "control", "choices", "votes", "part"),
    *("image", "width", "height", "sha256", "source"),
)

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportedImage:
    """An image in the folder: its name there and its size in pixels."""

    name: str
    width: int
    height: int


Images = Mapping[tuple[int, str], ExportedImage]
"""Task and data key → image; without those that cannot be had."""


def export_labels(
    folder: OwnFolder, labels: ExportedLabels, copies: WorkingCopies, tell: Tell
) -> dict[str, Any]:
    """Write the labelled data to ``folder``; what is in it, as plain values.

    A label whose image cannot be had is in the CSV only, without an image. :class:`SetupError`
    when nothing is labelled.
    """
    if not labels.rows:
        raise SetupError(
            "No label of this project can be learned from yet.", mend="Label some images first."
        )
    images, missing = _write_images(folder, labels, copies, tell)
    folder.write("labels.csv", _csv(labels.rows, images))
    names = safe_names(control.name for control in labels.controls)
    controls = {
        control.name: _write_control(folder, control, names[control.name], labels, images)
        for control in labels.controls
    }
    found = {
        "labels": len(labels.rows),
        "images": len(images),
        "controls": controls,
        "left_out": labels.left_out,
        "images_missing": missing,
    }
    folder.description |= found
    return found


def _write_control(
    folder: OwnFolder, control: Control, name: str, labels: ExportedLabels, images: Images
) -> dict[str, Any]:
    """Class folders and COCO's JSON of a control; an image is in the folder of each of its classes,
    so in none where nothing is ticked."""
    rows = [row for row in labels.rows if row.control == control.name]
    classes = safe_names(control.classes)
    for row in rows:
        image = images.get((row.task_id, row.data_key))
        if image is not None:
            file_name = image.name.rpartition("/")[2]
            for choice in row.choices:
                folder.same(f"classes/{name}/{classes[choice]}/{file_name}", image.name)
    folder.write(f"coco/{name}.json", _coco(control, rows, images))
    return {
        "multiple": control.multiple,
        "folder": f"classes/{name}",
        "coco": f"coco/{name}.json",
        "classes": classes,
    }


def _write_images(
    folder: OwnFolder, labels: ExportedLabels, copies: WorkingCopies, tell: Tell
) -> tuple[dict[tuple[int, str], ExportedImage], list[dict[str, Any]]]:
    """The images of the labels, each once, and those that cannot be had with the reason."""
    wanted = {(row.task_id, row.data_key): row for row in labels.rows}
    several = len({control.data_key for control in labels.controls}) > 1
    fields = safe_names(control.data_key for control in labels.controls)
    found: dict[tuple[int, str], ExportedImage] = {}
    missing = []
    for done, ((task_id, data_key), row) in enumerate(wanted.items(), 1):
        stem = f"{task_id}-{fields[data_key]}" if several else str(task_id)
        try:
            found[task_id, data_key] = _write_image(folder, stem, row, copies)
        except ImageError as error:
            missing.append({"task": task_id, "field": data_key, "reason": error.message})
        tell("images", done, len(wanted))
    return found, missing


def _write_image(
    folder: OwnFolder, stem: str, row: ExportedLabel, copies: WorkingCopies
) -> ExportedImage:
    if not row.digest:
        raise ImageError("Its image could not be had so far.", retry=True)
    # Opened, because a copy that is damaged must not be handed on.
    width, height = copies.open(row.digest).size
    path = copies.path(row.digest)
    name = f"images/{stem}{path.suffix}"
    folder.write(name, path.read_bytes())
    return ExportedImage(name, width, height)


def _csv(rows: Iterable[ExportedLabel], images: Images) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        image = images.get((row.task_id, row.data_key))
        part = "audit" if row.audit else "train"
        seen = (image.name, image.width, image.height) if image else ("", "", "")
        # A list, also where it has one class: a class may have any character in its name.
        choices = json.dumps(row.choices, ensure_ascii=False)
        writer.writerow(
            (row.task_id, row.control, choices, row.votes, part, *seen, row.digest, row.uri)
        )
    return text.getvalue().encode()


def _coco(control: Control, rows: Iterable[ExportedLabel], images: Images) -> bytes:
    """Image classification in COCO's form: each class of an image is an annotation of all of it."""
    numbers = {name: number for number, name in enumerate(control.classes, 1)}
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in rows:
        image = images.get((row.task_id, row.data_key))
        if image is None:
            continue
        width, height = image.width, image.height
        part = "audit" if row.audit else "train"
        listed.append(
            {"id": row.task_id, "file_name": image.name, "width": width, "height": height}
            | {"part": part}
        )
        for name in row.choices:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": row.task_id,
                    "category_id": numbers[name],
                    "bbox": [0, 0, width, height],
                    "area": width * height,
                    "segmentation": [],
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": f"Image classification, control “{control.name}”"},
        "licenses": [],
        "images": listed,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": control.name}
            for name, number in numbers.items()
        ],
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
