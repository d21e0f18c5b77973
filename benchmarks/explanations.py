"""How much of the evidence that LIME and Grad-CAM show falls on an object whose place is known.

    python -m benchmarks.explanations DATA --background BACKGROUND_Google [--weights-dir DIR]

DATA is a folder of class folders, one of them of backgrounds. A head learns 20 classes and the
backgrounds, from whole photos and from photos pasted on backgrounds. Then photos of the classes
that it has not seen are pasted, shrunk, anywhere on backgrounds that it has not seen, one on each:
the object is where the photo was pasted. The class that is explained is that of the photo,
whatever the head says.

``share``: of the positive evidence (LIME's weights above 0, Grad-CAM's heat), what falls on the
photo. ``chance``: the photo's share of the image, which evidence at random places would have.
``hits``: images where the strongest place is on the photo. ``wall`` and ``cpu``: seconds for one
explanation, the median; the two ways are measured in turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import report, say
from model.backbones import Backbone, load_backbone
from model.embed import Embedder
from model.explain import SAMPLES, grad_cam, lime_superpixels
from model.head import Head, fit_head

CLASSES, LEARNED, CANVAS = 20, 25, 288
SMALLEST, LARGEST = 0.35, 0.55

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Pasted:
    """A photo on a background, at (left, top, right, bottom)."""

    image: Image.Image
    position: int
    box: tuple[int, int, int, int]

    def on_object(self) -> NDArray[np.bool_]:
        """(h, w) where the photo is."""
        left, top, right, bottom = self.box
        found = np.zeros((self.image.height, self.image.width), dtype=np.bool_)
        found[top:bottom, left:right] = True
        return found


@dataclass
class Way:
    """One way to explain, and what was found of it."""

    explain: Callable[[Pasted], Map]
    shares: list[float] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, pasted: Pasted) -> None:
        """Explain one image."""
        wall, cpu = time.perf_counter(), time.process_time()
        evidence = np.maximum(self.explain(pasted), 0)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        there, total = pasted.on_object(), float(evidence.sum())
        self.shares.append(float(evidence[there].sum()) / total if total else 0.0)
        self.hits.append(bool(there.flat[int(evidence.argmax())]))

    def summary(self) -> dict[str, Any]:
        """The figures."""
        return {
            "share": round(fmean(self.shares), 3),
            "share_median": round(median(self.shares), 3),
            "share_least": round(min(self.shares), 3),
            "hits": sum(self.hits),
            "wall": round(median(self.wall), 3),
            "cpu": round(median(self.cpu), 3),
        }


class Photos:
    """The photos of some classes, drawn with a seed: those to learn, and those that follow."""

    def __init__(self, data: Path, background: str, generator: np.random.Generator) -> None:
        names = sorted(
            each.name
            for each in data.iterdir()
            if each.is_dir() and each.name != background and len(list(each.iterdir())) > LEARNED
        )
        drawn = generator.choice(len(names), size=CLASSES, replace=False)
        self.classes = (*(names[i] for i in sorted(drawn.tolist())), background)
        self._files = [
            [files[i] for i in generator.permutation(len(files))]
            for files in (sorted((data / name).iterdir()) for name in self.classes)
        ]

    def learned(self) -> tuple[list[Path], list[int]]:
        """Files and their classes."""
        rows = [
            (file, position)
            for position, files in enumerate(self._files)
            for file in files[:LEARNED]
        ]
        return [file for file, _ in rows], [position for _, position in rows]

    def photo(self, position: int, turn: int, *, learned: bool) -> Image.Image:
        """A photo of a class, one of those that are learned or of the others."""
        files = self._files[position]
        some = files[:LEARNED] if learned else files[LEARNED:]
        return Image.open(some[turn % len(some)]).convert("RGB")


def learn(embedder: Embedder, photos: Photos, generator: np.random.Generator) -> Head:
    """A head that knows the classes and the backgrounds."""
    files, targets = photos.learned()
    images = [Image.open(file).convert("RGB") for file in files]
    for turn in range(CLASSES * LEARNED):
        pasted = paste(photos, turn, generator, learned=True)
        images.append(pasted.image)
        targets.append(pasted.position)
    embeddings = embedder.embed(images)
    fitted = fit_head(embeddings, targets, classes=photos.classes, multiple=False, seed=0)
    return fitted.head


def paste(
    photos: Photos, turn: int, generator: np.random.Generator, *, learned: bool = False
) -> Pasted:
    """A shrunk photo anywhere on a background."""
    position = turn % CLASSES
    ground = photos.photo(CLASSES, turn, learned=learned).resize((CANVAS, CANVAS))
    photo = photos.photo(position, turn // CLASSES, learned=learned)
    longer = int(CANVAS * generator.uniform(SMALLEST, LARGEST))
    scale = longer / max(photo.size)
    width, height = (max(1, round(scale * side)) for side in photo.size)
    left = int(generator.integers(0, CANVAS - width + 1))
    top = int(generator.integers(0, CANVAS - height + 1))
    ground.paste(photo.resize((width, height)), (left, top))
    return Pasted(ground, position, (left, top, left + width, top + height))


def ways(backbone: Backbone, embedder: Embedder, head: Head) -> dict[str, Way]:
    """LIME and Grad-CAM."""

    def lime(pasted: Pasted) -> Map:
        return lime_superpixels(
            pasted.image,
            embedder.embed,
            head,
            pasted.position,
            side=backbone.input_size,
            generator=np.random.default_rng(0),
        ).weight_map()

    def cam(pasted: Pasted) -> Map:
        return grad_cam(backbone, head, pasted.position, pasted.image)

    return {"lime": Way(lime), "grad_cam": Way(cam)}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--background", default="BACKGROUND_Google")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--weights-dir", type=Path, default=None)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    generator = np.random.default_rng(asked.seed)
    backbone = load_backbone(
        asked.backbone,
        input_size=asked.input_size,
        weights_dir=asked.weights_dir,
        cache_dir=Path(".cache"),
    )
    embedder = Embedder(backbone)
    photos = Photos(asked.data, asked.background, generator)
    say(f"learning {len(photos.classes)} classes from {LEARNED} photos each")
    head = learn(embedder, photos, generator)
    pasted = [paste(photos, turn, generator) for turn in range(asked.images)]
    said = head.logits(embedder.embed([each.image for each in pasted])).argmax(axis=1)
    found = ways(backbone, embedder, head)
    for way in found.values():
        way.explain(pasted[0])  # libraries are loaded before the clock runs
    for number, each in enumerate(pasted, start=1):
        for way in found.values():
            way.measure(each)
        say(f"{number} of {len(pasted)}")
    result = {
        "images": len(pasted),
        "right": int(sum(int(s) == p.position for s, p in zip(said, pasted, strict=True))),
        "chance": round(fmean(float(p.on_object().mean()) for p in pasted), 3),
        "samples": SAMPLES,
        "backbone": backbone.identity,
        "seed": asked.seed,
        **{name: way.summary() for name, way in found.items()},
    }
    if asked.json:
        report(result)
    else:
        for name, value in result.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
