"""What each part of a fine-tune is worth: linear probe first, fresh start, augmentation.

    python -m benchmarks.finetune_ablation --data cifar10.npz --weights FOLDER --out ablation.json

Each row of the table is one way to learn from the same labels, judged on the same test images:

* ``features``: the untouched backbone and a head
* ``LP-FT``: the fine-tune as Tiebreak does it
* ``plain``: no linear probe first, the layer on top starts at zero
* ``no augmentation``
* ``warm start``: from the network that was tuned on the first half of the labels

Rows that ``--out`` already holds are not run again. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import report, say
from model.backbones import Backbone, load_backbone
from model.calibrate import expected_calibration_error
from model.crossfit import calibrated
from model.embed import Embedder
from model.finetune import ControlLabels, FineTuned, FineTuneOptions, finetune
from model.head import fit_head
from model.metrics import accuracy, log_loss

WAYS = ("features", "LP-FT", "plain", "no augmentation", "warm start")
CHUNK = 256


@dataclass(frozen=True, eq=False)
class Drawn:
    """Images (n, h, w, 3) uint8 and their class positions (n,)."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def first(self, n: int) -> Drawn:
        return Drawn(self.images[:n], self.targets[:n])

    def load(self, row: int) -> Image.Image:
        return Image.fromarray(self.images[row])


def draw(data: Any, part: str, n: int, seed: int) -> Drawn:
    """``n`` images of a part, in a random order of their own."""
    targets = data[f"y_{part}"].ravel().astype(np.int64)
    rows = np.random.default_rng(seed).permutation(len(targets))[:n]
    return Drawn(data[f"X_{part}"][rows], targets[rows])


def embed(backbone: Backbone, drawn: Drawn) -> NDArray[Any]:
    embedder = Embedder(backbone)
    n = len(drawn.targets)
    return np.concatenate(
        [
            embedder.embed([drawn.load(row) for row in range(start, min(start + CHUNK, n))])
            for start in range(0, n, CHUNK)
        ]
    )


def judge(
    backbone: Backbone, train: Drawn, test: Drawn, names: Sequence[str], tuned: FineTuned | None
) -> dict[str, Any]:
    """Fit a head on the backbone's embeddings and measure it on the test images."""
    honest = ~tuned.trained if tuned is not None and tuned.best_epoch else None
    fit = fit_head(
        embed(backbone, train),
        train.targets,
        classes=names,
        multiple=False,
        seed=0,
        honest=honest,
    )
    logits = fit.head.logits(embed(backbone, test))
    after = calibrated(logits, fit.head.temperature, False)
    before = calibrated(logits, np.ones(1), False)
    return {
        "accuracy": round(accuracy(after, test.targets), 4),
        "log_loss": round(log_loss(after, test.targets), 4),
        "ece_before": round(expected_calibration_error(before, test.targets), 4),
        "ece_after": round(expected_calibration_error(after, test.targets), 4),
        "best_epoch": tuned.best_epoch if tuned else None,
        "seconds": round(tuned.seconds) if tuned else None,
    }


def learn(way: str, backbone: Backbone, train: Drawn, names: Sequence[str], options: Any) -> Any:
    """The fine-tune of one way."""

    def tune(start: Backbone, drawn: Drawn, chosen: FineTuneOptions) -> FineTuned:
        n = len(drawn.targets)
        labels = ControlLabels("class", tuple(names), False, drawn.targets, np.ones(n, dtype=bool))
        return finetune(start, drawn.load, [labels], chosen)

    if way == "plain":
        return tune(backbone, train, replace(options, probe_first=False, augmentation="photos"))
    if way == "no augmentation":
        return tune(backbone, train, replace(options, augmentation="none"))
    if way == "warm start":
        half = tune(backbone, train.first(len(train.targets) // 2), options)
        return tune(replace(backbone, network=half.network), train, options)
    return tune(backbone, train, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=".npz with X_train, y_train, …")
    parser.add_argument("--weights", type=Path, required=True, help="folder with weights files")
    parser.add_argument("--out", type=Path, required=True, help="file that keeps finished rows")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--input-size", type=int, default=96)
    parser.add_argument("--labels", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    data = np.load(given.data, allow_pickle=False)
    test = draw(data, "test", given.test, 99)
    names = [str(name) for name in np.unique(data["y_train"])]
    backbone = load_backbone(
        given.backbone,
        input_size=given.input_size,
        weights_dir=given.weights,
        cache_dir=given.weights,
    )
    rows = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    for labels in given.labels:
        for seed in range(given.seeds):
            train = draw(data, "train", labels, seed)
            options = FineTuneOptions(epochs=given.epochs, patience=given.epochs, seed=seed)
            for way in WAYS:
                key = {"way": way, "labels": labels, "seed": seed}
                if any(key.items() <= row.items() for row in rows):
                    continue
                tuned = None
                used = backbone
                if way != "features":
                    tuned = learn(way, backbone, train, names, options)
                    used = replace(backbone, network=tuned.network)
                row = key | judge(used, train, test, names, tuned)
                rows.append(row)
                say(str(row))
                given.out.write_text(json.dumps({"rows": rows}, indent=1))
    setting = {"backbone": backbone.identity, "epochs": given.epochs, "test_images": given.test}
    report(setting | {"rows": rows, "means": means(rows)})


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean over the seeds of each way, by number of labels."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        place = f"{row['way']}, {row['labels']} labels"
        same = [r for r in rows if (r["way"], r["labels"]) == (row["way"], row["labels"])]
        found[place] = {
            name: round(float(np.mean([r[name] for r in same])), 4)
            for name in ("accuracy", "log_loss", "ece_before", "ece_after")
        }
    return found


if __name__ == "__main__":
    main()
