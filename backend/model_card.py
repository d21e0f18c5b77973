"""The card of an exported model: what it takes, what it says, how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend import clock
from backend.served_model import ServedModel
from backend.tables import version_name
from backend.tuned_networks import MANIFEST_KEY, tuned_base
from backend.version_metrics import headline
from model.embed import IMAGENET_MEAN, IMAGENET_STD
from model.exchange import INPUT

EXAMPLE = """\
import json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps
card = json.load(open("card.json", encoding="utf-8"))
side = card["input"]["shape"][1]
picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGBA")
white = Image.new("RGB", picture.size, "white")
white.paste(picture, mask=picture.getchannel("A"))
pixels = np.asarray(white.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
for control, row in zip(card["controls"], session.run(None, {"images": pixels[None]})):
    print(control["name"], dict(zip(control["classes"], row[0].round(4).tolist())))
"""


def model_card(model: ServedModel, side: int, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The card as plain values. ``outputs``: control → name of its output."""
    manifest = model.artifact.manifest
    return {
        "project": model.project_id,
        "title": model.title,
        "version": version_name(model.artifact.version),
        "exported_at": clock.now(),
        "backbone": {
            "identity": model.artifact.backbone,
            "fine_tuned": isinstance(manifest.get(MANIFEST_KEY), dict),
            "original": tuned_base(model.artifact),
        },
        "input": {
            "name": INPUT,
            "type": "uint8",
            "shape": ["n", side, side, 3],
            "order": "rows, columns, then red, green and blue",
            "preprocessing": [
                "turn the picture as its EXIF orientation says",
                "make grey of 16 bits 8 bits, by dividing by 257; example.py leaves that to you",
                "put transparency on white, and make it RGB",
                f"resize the whole picture to {side} × {side} pixels, bilinear with antialiasing; "
                "the aspect ratio is not kept",
            ],
            "inside_the_model": {"mean": IMAGENET_MEAN, "standard_deviation": IMAGENET_STD},
        },
        "controls": [
            {
                "name": control.name,
                "output": outputs[control.name],
                "field": control.data_key,
                "multiple": control.multiple,
                "classes": list(model.heads[control.name].classes),
                "temperature": _numbers(model.heads[control.name].temperature),
                "thresholds": _numbers(model.heads[control.name].thresholds),
            }
            for control in model.controls
        ],
        "labels": manifest.get("labels"),
        "labels_sha256": manifest.get("labels_digest"),
        "metrics": headline(model.metrics),
    }


def card_text(card: Mapping[str, Any]) -> str:
    """The card for people, in Markdown."""
    lines = [
        f"# {_plain(card['title']) or 'Project'} {card['version']}",
        "",
        f"Image classification, exported from Tiebreak's project {card['project']}. Backbone: "
        f"{card['backbone']['identity']}"
        + (f", fine-tuned from {card['backbone']['original']}" * card["backbone"]["fine_tuned"])
        + f". Learned from {card['labels']} labels (SHA-256 {card['labels_sha256']}).",
        "",
        "## Input",
        f"`{card['input']['name']}`: {card['input']['type']}, "
        f"shape {card['input']['shape']}; {card['input']['order']}. Before that:",
        "",
        *(f"{n}. {step};" for n, step in enumerate(card["input"]["preprocessing"], 1)),
        "",
        "Scaling and normalising are in the model.",
        "",
        "## Outputs",
        "Calibrated probabilities, float32.",
        "",
    ]
    for control in card["controls"]:
        lines += _control_lines(control)
    lines += ["## How good it is", *_metric_lines(card["metrics"].get("measures") or {}), ""]
    lines += ["## Example", "`python example.py photo.jpg` with numpy, onnxruntime and Pillow:", ""]
    return "\n".join([*lines, "```python", EXAMPLE + "```", ""])


def _control_lines(control: Mapping[str, Any]) -> list[str]:
    kind = "each class by itself" if control["multiple"] else "one class; a row sums to 1"
    lines = [f"`{control['output']}` (n, {len(control['classes'])}): {kind}.", ""]
    lines += ["| column | class | said from |", "| --- | --- | --- |"]
    said = control["thresholds"] or ["the likeliest"] * len(control["classes"])
    for column, (name, at) in enumerate(zip(control["classes"], said, strict=True)):
        lines.append(
            f"| {column} | {_plain(name)} | {at if isinstance(at, str) else f'{at:.3f}'} |"
        )
    return [*lines, ""]


def _metric_lines(measures: Mapping[str, Any]) -> list[str]:
    lines = []
    for control, samples in measures.items():
        for sample, found in samples.items():
            for name, number in found.items():
                if isinstance(number, dict) and "low" in number:
                    said = _number_text(number)
                    lines.append(f"| {_plain(control)} | {sample} | {name} | {said} |")
    head = ["| control | sample | measure | value, 95% interval |", "| --- | --- | --- | --- |"]
    return [*head, *lines] if lines else ["Nothing is measured yet."]


def _number_text(number: Mapping[str, Any]) -> str:
    if number.get("value") is None:
        return str(number.get("reason", "cannot tell yet"))
    low, high = number["low"], number["high"]
    return f"{number['value']:.3f} ({low:.3f} to {high:.3f}), n = {number['n']}"


def _numbers(values: Any) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def _plain(text: str) -> str:
    """Others' words on one line of Markdown, without any meaning to it."""
    shown = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|" else c for c in shown)
