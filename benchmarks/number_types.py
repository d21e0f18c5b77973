"""Does a model get worse when its embeddings are computed in 16 or in 8 bits?

    python -m benchmarks.number_types DATA [DATA ...] --weights FOLDER [--backbone resnet50]
        [--size 160] [--labels 2000] [--tests 2000] [--json]

Each DATA is an ``.npz`` file or a folder of class folders. The same images are embedded on this CPU
in 32 bits, in 16 and in 8, where it has them. For each: the time of an image on one core, how
near the embeddings are to those in 32 bits (cosine similarity), and how many of the test images a
head gets right that learned on ``--labels`` embeddings of one kind and is asked about another.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backend.labelled_data import ImageSet, subset
from backend.read_data import read_labelled_data
from benchmarks.report import report, say
from model.backbones import BACKBONES, load_backbone
from model.embed import square_pixels
from model.head import fit_head
from model.openvino_runtime import OpenVinoRuntime

Array = NDArray[Any]
MAX_PIXELS = 100_000_000


def squares(images: ImageSet, side: int) -> list[NDArray[np.uint8]]:
    """What a network sees."""
    return [square_pixels(images.load(row), side, row) for row in range(len(images))]


def embeddings(
    runtime: OpenVinoRuntime, seen: list[Any]
) -> tuple[dict[int, Array], dict[int, Any]]:
    """By bits: (n, width) float16, and milliseconds of an image."""
    ways = {32: runtime.run_in_32_bits, runtime.bits: runtime.run}
    if runtime.bits == 8:
        ways[16] = runtime._compiled(runtime._model, "bf16").run
    found, spent = {}, {}
    for bits in sorted(ways, reverse=True):
        ways[bits](seen[:8])
        start = time.process_time()
        found[bits] = ways[bits](seen).astype(np.float16)
        spent[bits] = round((time.process_time() - start) / len(seen) * 1000, 1)
    return found, spent


def likeness(found: Array, exact: Array) -> dict[str, float]:
    """Cosine similarities, row by row."""
    left, right = found.astype(np.float64), exact.astype(np.float64)
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return {"mean": round(float(cosines.mean()), 4), "least": round(float(cosines.min()), 4)}


def accuracies(found: dict[int, Array], labels: Array, n: int) -> dict[str, float]:
    """Per cent right of the rows from ``n`` on, learned on the ones before."""
    classes, rows = [str(name) for name in range(int(labels.max()) + 1)], {}
    for learned in found:
        fit = fit_head(found[learned][:n], labels[:n], classes=classes, multiple=False, seed=0)
        for asked in found:
            said = fit.head.probabilities(found[asked][n:]).argmax(axis=1)
            right = float((said == labels[n:]).mean())
            rows[f"learned in {learned}, asked in {asked}"] = round(100 * right, 1)
    return rows


def measure(data: Path, options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """One data set."""
    images = read_labelled_data(data, seed=0, side=options.size, max_pixels=MAX_PIXELS)
    generator = np.random.default_rng(0)
    train = subset(images.train, min(options.labels, len(images.train)), generator)
    test = subset(images.test, min(options.tests, len(images.test)), generator)
    backbone = load_backbone(
        options.backbone, input_size=options.size, weights_dir=options.weights, cache_dir=cache
    )
    runtime = OpenVinoRuntime(backbone.network, options.size, backbone.width)
    say(f"{data.stem}: {len(train)} and {len(test)} images, {backbone.identity}")
    seen = squares(train, options.size) + squares(test, options.size)
    found, spent = embeddings(runtime, seen)
    labels = np.concatenate([train.targets, test.targets])
    return {
        "data": data.stem,
        "backbone": backbone.identity,
        "labels": len(train),
        "tests": len(test),
        "core_ms": spent,
        "cosine_to_32": {bits: likeness(rows, found[32]) for bits, rows in found.items()},
        "accuracy": accuracies(found, labels, len(train)),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default="resnet50")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--labels", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    options = parser.parse_args()
    # One thread: seconds of the processor then mean the same on a busy machine.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        report({"rows": [measure(data, options, Path(cache)) for data in options.data]})


if __name__ == "__main__":
    main()
