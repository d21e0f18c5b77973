"""Label Studio takes every config to start from, and its answers to it are learned from."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.label_config import Control, parse_label_config
from backend.labels import parse_annotation, task_labels
from tests.e2e.digits import Digits
from tests.e2e.label_studio_person import Json
from tests.e2e.label_studio_server import LabelStudioServer
from tests.tiebreak_process import REPOSITORY

CONFIGS = sorted((REPOSITORY / "label_studio_config").glob("*.xml"))


def _answer(control: Control) -> Json:
    """What Label Studio stores when somebody ticks the last choices of a control."""
    ticked = control.classes[-2:] if control.multiple else control.classes[-1:]
    return {
        "from_name": control.name,
        "to_name": control.to_name,
        "type": "choices",
        "value": {"choices": list(ticked)},
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_can_be_labelled_with(
    path: Path, digits: Digits, label_studio: LabelStudioServer
) -> None:
    config = path.read_text(encoding="utf-8")
    controls = parse_label_config(config).controls
    admin = label_studio.admin
    project = digits.create_project(f"Config {path.stem}", config)
    try:
        # As Label Studio itself reads it.
        known = admin.get(f"/api/projects/{project}")["parsed_label_config"]
        for control in controls:
            assert known[control.name]["type"] == "Choices"
            assert tuple(known[control.name]["labels"]) == control.classes
        (task,) = digits.add_tasks(project, [0])
        result = [_answer(control) for control in controls]
        admin.post(f"/api/tasks/{task}/annotations/", {"result": result})
        stored = admin.get(f"/api/tasks/{task}/annotations/")
        labels = task_labels([parse_annotation(each) for each in stored], controls)
        for control in controls:
            assert labels[control.name].status == "agreed"
            assert list(labels[control.name].choices) == _answer(control)["value"]["choices"]
    finally:
        admin.delete_project(project)
