"""Which input size is worth its time: accuracy and speed of frozen features, per image size.

    python -m benchmarks.input_sizes --weights FOLDER [--data cifar10.npz …] [--labels 2000]

Every data set is an ``.npz`` with ``X_train``, ``y_train``, ``X_test`` and ``y_test`` (images
(n, h, w) or (n, h, w, 3) uint8); without ``--data`` it is scikit-learn's 8-pixel digits. A head is
fitted on the embeddings of ``--labels`` images and tested on others, at every input size.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import report, say
from model.backbones import load_backbone
from model.embed import Embedder
from model.head import fit_head

SIZES = (64, 96, 128, 160, 192, 224)
Pictures = list[Image.Image]
Targets = NDArray[np.int64]


def digits() -> dict[str, NDArray[Any]]:
    """scikit-learn's 1,797 digits, 8 pixels a side; the last 797 are for testing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * 255 / 16).astype(np.uint8)
    return {
        "X_train": pixels[:1000],
        "y_train": found.target[:1000],
        "X_test": pixels[1000:],
        "y_test": found.target[1000:],
    }


def drawn(data: Any, part: str, n: int) -> tuple[Pictures, Targets]:
    """``n`` images of a part, the same at every call, or all where there are fewer."""
    count = len(data[f"y_{part}"])
    chosen = np.random.default_rng(0).permutation(count)[:n]
    pixels = data[f"X_{part}"][chosen]
    return [Image.fromarray(p) for p in pixels], data[f"y_{part}"][chosen].astype(np.int64)


def measure(embedder: Embedder, train: Any, test: Any) -> dict[str, float]:
    """Accuracy on the test images, and images embedded per second of one core."""
    embedder.embed(train[0][: embedder.batch_size])
    start = time.process_time()
    embeddings = embedder.embed([*train[0], *test[0]])
    seconds = time.process_time() - start
    classes = [str(i) for i in range(int(train[1].max()) + 1)]
    n = len(train[1])
    fit = fit_head(embeddings[:n], train[1], classes=classes, multiple=False, seed=0)
    found = fit.head.probabilities(embeddings[n:]).argmax(axis=1)
    return {
        "accuracy": round(float((found == test[1]).mean()), 4),
        "images_per_core_second": round(len(embeddings) / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2", "resnet18"])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--labels", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=2000)
    options = parser.parse_args()
    # One thread: seconds of the processor then mean the same on a busy machine.
    torch.set_num_threads(1)
    sets = {path.stem: np.load(path) for path in options.data} or {"digits": digits()}
    rows = []
    for name, data in sets.items():
        train, test = drawn(data, "train", options.labels), drawn(data, "test", options.tests)
        for backbone in options.backbones:
            for size in options.sizes:
                loaded = load_backbone(
                    backbone,
                    input_size=size,
                    weights_dir=options.weights,
                    cache_dir=options.weights,
                    on_progress=say,
                )
                found = measure(Embedder(loaded, device="cpu"), train, test)
                row = {"data": name, "shorter_side": min(train[0][0].size)}
                rows.append(row | {"backbone": backbone, "input_size": size} | found)
                say(str(rows[-1]))
    report({"rows": rows})


if __name__ == "__main__":
    main()
