"""The version that serves as files for other programs: safetensors, ONNX, OpenVINO and a card."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from backend.export_labels import Tell
from backend.model_card import EXAMPLE, card_text, model_card
from backend.network_source import network_source
from backend.own_folder import own_folder
from backend.served_model import served_model
from backend.settings import Settings
from backend.store import Store

KIND = "model"
STEPS = 4


def export_served(
    store: Store, settings: Settings, project_id: int, to: Path, tell: Tell
) -> dict[str, Any]:
    """The version that serves a project; what was written, with ``sentence`` and ``warnings``.

    Raises:
        PackageError: the packages that write ONNX are not installed.
        SetupError: nothing serves, or ``to`` is not free.
        WeightsError: the backbone cannot be had.
        StorageError: it cannot be written.
    """
    # Torch takes seconds to load; exporting labels has no use for it.
    from model.exchange import (
        can_write_openvino,
        require_onnx,
        to_onnx,
        to_openvino,
        to_safetensors,
    )
    from model.pipeline import Pipeline

    require_onnx()
    model = served_model(store, settings, project_id)
    tell("the network", 0, STEPS)
    backbone = network_source(settings, model.artifact.backbone).load()
    outputs = output_names(model.heads)
    pipeline = Pipeline(backbone.network, model.heads)
    warnings = []
    with own_folder(to, KIND) as folder:
        folder.write("model.safetensors", to_safetensors(pipeline))
        tell("ONNX", 1, STEPS)
        onnx = to_onnx(pipeline, backbone.input_size, list(outputs.values()))
        folder.write("model.onnx", onnx)
        tell("OpenVINO", 2, STEPS)
        if can_write_openvino():
            xml, weights = to_openvino(onnx)
            folder.write("openvino/model.xml", xml)
            folder.write("openvino/model.bin", weights)
        else:
            warnings.append("OpenVINO is not installed, so its files are left out.")
        tell("card", 3, STEPS)
        card = model_card(model, backbone.input_size, outputs)
        card["files"] = {
            path.relative_to(folder.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.path.rglob("model.*"))
        }
        folder.write_json("card.json", card)
        folder.write("README.md", card_text(card).encode())
        folder.write("example.py", EXAMPLE.encode())
        folder.description |= {"project": project_id, "version": card["version"]}
        tell("card", STEPS, STEPS)
    said = (
        f"{card['version']} of project {project_id} is in {to}; README.md there says how to use it."
    )
    found = {"project": project_id, "folder": str(to), "sentence": said, "warnings": warnings}
    return found | {"card": card}


def output_names(controls: Iterable[str]) -> dict[str, str]:
    """Control → a name of its own that every runtime takes, such as ``label_probabilities``."""
    names: dict[str, str] = {}
    for control in controls:
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", control).strip("_") or "control"
        name, number = f"{plain}_probabilities", 1
        while name in names.values():
            number += 1
            name = f"{plain}_{number}_probabilities"
        names[control] = name
    return names
