"""A project whose version reads a small fine-tuned network, to be exported and held to account."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from backend.champion import artifact_folder
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from backend.tuned_networks import MANIFEST_KEY, TunedNetwork, keep_network
from model.artifact import Artifact, save_artifact
from model.backbones import BACKBONES, Backbone, build_network
from model.embed import Embedder
from model.head import Head, power_normalise
from model.tuned import save_network

SIDE = 64
NAME = "resnet18"
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="kind / sort" toName="image"><Choice value="cat"/><Choice value="dog"/>
<Choice value="owl"/></Choices>
<Choices name="tags" toName="image" choice="multiple"><Choice value="day"/><Choice value="night"/>
</Choices></View>"""
MEASURES = {
    "kind / sort": {
        "held_out": {
            "n": 120,
            "accuracy": {"value": 0.9, "low": 0.833, "high": 0.942, "n": 120},
            "ece": {"value": None, "low": None, "high": None, "n": 9, "reason": "too few"},
        }
    }
}


@dataclass(frozen=True, eq=False)
class ExportedProject:
    """Project 1, with the heads of version 3, which serves. Its class “fox” left the config."""

    settings: Settings
    store: Store
    identity: str
    heads: dict[str, Head]


def make_project(
    settings: Settings, store: Store, seeded_model: Callable[[str], torch.nn.Module]
) -> ExportedProject:
    """Write the network, the version and the project as a training writes them."""
    network = build_network(BACKBONES[NAME], seeded_model(NAME).state_dict(), source="the test")
    path = settings.data_dir / "tuned.safetensors"
    digest = save_network(path, network)
    identity = f"{NAME}-{digest[:8]}-{SIDE}px"
    record = TunedNetwork(
        identity=identity,
        name=NAME,
        input_size=SIDE,
        sha256=digest,
        base=f"{NAME}-00000000-{SIDE}px",
        trained=frozenset(),
    )
    keep_network(settings, path, record)
    spread = _spread(network)
    heads = {
        "kind / sort": _head(("cat", "fox", "dog", "owl"), spread, multiple=False),
        "tags": _head(("day", "night"), spread, multiple=True),
        "gone": _head(("a", "b"), spread, multiple=False),
    }
    manifest: dict[str, Any] = {
        "labels": 300,
        "labels_digest": hashlib.sha256(b"labels").hexdigest(),
        MANIFEST_KEY: record.manifest(),
    }
    save_artifact(artifact_folder(settings.data_dir, 1, 3), Artifact(3, identity, heads, manifest))
    with store.write() as session:
        session.add(
            Project(
                id=1, title="Cats *and* dogs", label_config=CONFIG, connected_at=0.0, champion=3
            )
        )
        session.flush()
        session.add(
            Version(
                project_id=1,
                number=3,
                created_at=0.0,
                kept=True,
                reason="Kept.",
                labels=300,
                backbone=identity,
                metrics={"measures": MEASURES},
            )
        )
    return ExportedProject(settings, store, identity, heads)


def photos() -> list[Image.Image]:
    """Two photographs and parts of them, of several sizes and shapes."""
    found = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    boxes = [(0, 0, 320, 427), (200, 100, 500, 300), (40, 40, 100, 100), (320, 0, 640, 213)]
    return found + [image.crop(box) for image in found for box in boxes]


def pixels_of(images: list[Image.Image]) -> NDArray[np.uint8]:
    """(n, s, s, 3) uint8 as the card says, by Pillow alone."""
    resized = [i.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0) for i in images]
    return np.stack([np.asarray(image) for image in resized])


def files_below(folder: Path) -> list[str]:
    """Every file, from the folder on."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _spread(network: torch.nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(512, 4) directions in which the embeddings of the photos differ most, so that heads tell
    them apart although the network has learned nothing, and (4,) their mean along these."""
    embedder = Embedder(Backbone(NAME, "", 512, SIDE, network), device="cpu")
    rows = power_normalise(embedder.embed(photos()).astype(np.float32))
    mean = rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows - mean, full_matrices=False)
    spread = np.asarray(directions[:4].T / sizes[:4] * np.sqrt(len(rows)), dtype=np.float32)
    return spread, mean @ spread


def _head(
    classes: tuple[str, ...],
    spread: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    multiple: bool,
) -> Head:
    """A head that is sure of some images and unsure of others."""
    k, generator = len(classes), np.random.default_rng(len(classes))
    temperature = np.linspace(0.8, 1.4, k if multiple else 1).astype(np.float32)
    directions, mean = spread
    mixed = generator.standard_normal((4, k))
    weights = (directions @ mixed).astype(np.float32)
    # Some images lie on either side of their mean.
    bias = (-mean @ mixed).astype(np.float32)
    return Head(
        classes,
        multiple,
        weights,
        bias,
        temperature,
        np.full(k, 0.3, dtype=np.float32) if multiple else None,
    )


def by_example(folder: Path, photo: Path) -> list[str]:
    """The lines that the example prints; anything else than what it names may not be imported."""
    barred = ("torch", "torchvision", "backend", "model", "sklearn", "openvino", "onnx")
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({barred!r}))\n"
        f"sys.argv = ['example.py', {str(photo)!r}]; runpy.run_path('example.py')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def faded(photo: Image.Image) -> Image.Image:
    """The photo, transparent at the left and solid at the right, black where nothing is seen."""
    alpha = np.tile(np.linspace(0, 255, photo.width).astype(np.uint8), (photo.height, 1))
    seen = np.where(alpha[..., None] > 0, np.asarray(photo), 0)
    return Image.fromarray(np.dstack([seen, alpha]).astype(np.uint8), "RGBA")
