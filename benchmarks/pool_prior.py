"""What the unlabelled images are worth: the same labels, learned with and without them.

    python -m benchmarks.pool_prior DATA [--input-size 0] [--weights FOLDER] [--cache FOLDER]
        [--per-class 2,5,10,20,40,100] [--draws 3]

DATA is a folder of class folders, or an ``.npz`` with ``X_train`` and ``y_train``. Of its images,
in an order drawn by the seed, up to 10,000 are the pool and up to 5,000 others are judged on.
Labels are drawn from the pool at random; each draw is learned twice by the product's own head on
MobileNetV2's features, with the pool and without it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.labelled_data import LabelledData
from backend.read_data import read_labelled_data
from backend.simulation_images import usual_input_size
from benchmarks.embedded import embedded
from benchmarks.report import report, say
from model.backbones import load_backbone
from model.embed import Embedder
from model.head import fit_head, power_normalise
from model.metrics import accuracy, log_loss
from model.pool_prior import MOST_IMAGES, PoolPrior

Array = NDArray[Any]
JUDGED = 5000
SIDE, MAX_PIXELS = 288, 100_000_000


def measured(
    rows: Array, targets: Array, judged: tuple[Array, Array], names: Sequence[str], pool: Any
) -> dict[str, float]:
    """One head on some labels: how right it is, how sure of the truth, and its seconds."""
    started = time.perf_counter()
    fit = fit_head(rows, targets, classes=names, multiple=False, seed=0, pool=pool)
    seconds = time.perf_counter() - started
    said = fit.head.probabilities(judged[0])
    return {
        "accuracy": accuracy(said, judged[1]),
        "log_loss": log_loss(said, judged[1]),
        "trust": float(fit.metrics["trust"] or 0),
        "seconds": seconds,
    }


def compared(
    data: LabelledData, vectors: Array, sizes: Sequence[int], draws: int
) -> list[dict[str, Any]]:
    """A row for each number of labels: means over the draws, without and with the pool."""
    order = np.random.default_rng(0).permutation(len(vectors))
    count = min(MOST_IMAGES, int(0.7 * len(vectors)))
    pool, unseen = order[:count], order[count : count + JUDGED]
    targets, judged = data.train.targets, (vectors[unseen], data.train.targets[unseen])
    started = time.perf_counter()
    prior = PoolPrior(power_normalise(vectors[pool]))
    say(f"a pool of {count} images: {time.perf_counter() - started:.1f} s")
    rows = []
    for labels in [size for size in sizes if size <= count]:
        found: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
        for seed in range(draws):
            drawn = pool[np.random.default_rng(seed).permutation(count)[:labels]]
            for name, said in (("without", None), ("with", prior)):
                found[name].append(
                    measured(vectors[drawn], targets[drawn], judged, data.classes, said)
                )
        rows.append(
            {"labels": labels}
            | {
                name: {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
                for name, parts in found.items()
            }
        )
        say(f"{labels} labels: " + ", ".join(f"{n} {rows[-1][n]['accuracy']:.1%}" for n in found))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--input-size", type=int, default=0, help="0: by the size of the images")
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--cache", type=Path, default=Path(".cache/benchmarks"))
    parser.add_argument("--per-class", default="2,5,10,20,40,100")
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    data = read_labelled_data(given.data, seed=0, side=SIDE, max_pixels=MAX_PIXELS)
    size = given.input_size or usual_input_size(data)
    embedder = Embedder(
        load_backbone(
            "mobilenet_v2", input_size=size, weights_dir=given.weights, cache_dir=given.cache
        )
    )
    vectors = embedded(embedder, data.train, f"{data.digest}-train", given.cache)
    sizes = [int(part) * len(data.classes) for part in given.per_class.split(",")]
    rows = compared(data, vectors, sizes, given.draws)
    report({"data": data.name, "input_size": size, "draws": given.draws, "rows": rows})


if __name__ == "__main__":
    main()
