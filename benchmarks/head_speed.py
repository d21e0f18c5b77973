"""Seconds to learn a calibrated head, against scikit-learn and against a refit of the network.

    python -m benchmarks.head_speed [--embeddings FILE.npz] [--labels 100,1000,10000]
        [--classes 10] [--pool] [--repeats 3] [--skip-sklearn] [--skip-refit] [--json]

FILE has ``train``, (n, d) embeddings, and ``y_train``, (n,) positions of classes (or ``all`` and
``y``); without it, rows of 1,280 numbers around random centres. In one run, repeat by repeat:

* *head*: the product's own, penalty and temperature by five-fold cross-validation; with ``--pool``
  it also listens to 10,000 unlabelled rows, made ready beforehand, as a trainer has them;
* *sklearn*: scikit-learn's ``LogisticRegressionCV`` on the same normalised rows, with the same six
  penalties and five folds, and a temperature from out-of-fold scores at the penalty it chose;
* *refit*: what the usual backend does on each training: fine-tuning all weights, eager fp32,
  MobileNetV2 at 224 px in batches of 32, ready tensors, for one pass only. It is timed on three
  batches and multiplied;
* *limit*: one product of all rows with the weights of all folds and back, as often as a fit needs
  it once at least: the fit's own number of such passes is what is above it.

CPU seconds, beside the others, hold on a busy machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from benchmarks.report import report, say
from model.calibrate import fit_temperature
from model.crossfit import PENALTIES
from model.head import FOLDS, fit_head, power_normalise
from model.pool_prior import MOST_IMAGES, PoolPrior

Array = NDArray[Any]
WIDTH, ROWS, BATCH, BATCHES = 1280, 20_000, 32, 3


def rows_of(file: Path | None, classes: int) -> tuple[Array, Array]:
    """Embeddings and classes in an order drawn by chance."""
    generator = np.random.default_rng(0)
    if file is None:
        targets = np.arange(ROWS) % classes
        centres = generator.normal(0, 0.35, (classes, WIDTH))
        rows = np.maximum(centres[targets] + generator.normal(0, 1, (ROWS, WIDTH)), 0)
    else:
        with np.load(file, allow_pickle=False) as data:
            name = "train" if "train" in data else "all"
            rows, targets = data[name], data["y_train" if name == "train" else "y"]
    order = generator.permutation(len(rows))
    return rows[order].astype(np.float16), targets[order].astype(np.int64)


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Wall and CPU seconds of ``work``."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def with_sklearn(rows: Array, targets: Array) -> None:
    """The same choice of a penalty and a temperature by scikit-learn."""
    normalised = power_normalise(rows)
    # Our penalty is for rows scaled to a mean squared length of 1 around their mean.
    scale = float(np.sqrt(len(rows) / ((normalised - normalised.mean(axis=0)) ** 2).sum()))
    scaled = (normalised - normalised.mean(axis=0)) * scale
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    chosen = LogisticRegressionCV(
        Cs=[1 / penalty for penalty in PENALTIES],
        cv=folds,
        scoring="neg_log_loss",
        max_iter=200,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    ).fit(scaled, targets)
    single = LogisticRegression(C=float(chosen.C_), max_iter=200)
    scores = cross_val_predict(single, scaled, targets, cv=folds, method="decision_function")
    fit_temperature(scores, targets, False)


def refit_step() -> Callable[[], None]:
    """One batch of a fine-tune of all weights."""
    network = torchvision.models.mobilenet_v2(weights=None, num_classes=10).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    pictures, wanted = torch.rand(BATCH, 3, 224, 224), torch.arange(BATCH) % 10

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(pictures), wanted).backward()
        optimiser.step()

    step()
    return step


def one_pass(rows: Array, classes: int) -> Callable[[], Any]:
    """All rows times the weights of five models, and back."""
    scores = power_normalise(rows)
    weights = np.zeros((scores.shape[1], FOLDS * classes), dtype=np.float32)
    return lambda: scores.T @ (scores @ weights)


def measured(given: argparse.Namespace, rows: Array, targets: Array, labels: int) -> dict[str, Any]:
    """The sides one after the other, as often as asked; the median of each."""
    names = [str(n) for n in range(int(targets.max()) + 1)]
    drawn, known = rows[:labels], targets[:labels]
    pool = PoolPrior(power_normalise(rows[-MOST_IMAGES:])) if given.pool else None
    step = None if given.skip_refit else refit_step()
    found: dict[str, list[dict[str, float]]] = {}
    fit: dict[str, float | None] = {}

    def head() -> None:
        fit.update(fit_head(drawn, known, classes=names, multiple=False, seed=0, pool=pool).metrics)

    for turn in range(given.repeats):
        sides = {"head": timed(head)}
        with threadpool_limits(limits=1, user_api="blas"):
            sides["limit"] = timed(one_pass(drawn, len(names)))
        if not given.skip_sklearn:
            sides["sklearn"] = timed(lambda: with_sklearn(drawn, known))
        if step is not None:
            batches = timed(lambda: [step() for _ in range(BATCHES)])
            share = labels / BATCH / BATCHES
            sides["refit"] = {name: share * value for name, value in batches.items()}
        for name, value in sides.items():
            found.setdefault(name, []).append(value)
        say(
            f"{labels} labels, {turn + 1}: "
            + str({k: round(v["seconds"], 2) for k, v in sides.items()})
        )
    medians = {
        name: {key: round(float(np.median([v[key] for v in values])), 3) for key in values[0]}
        for name, values in found.items()
    }
    return {"labels": labels, "classes": len(names), "fit": fit} | medians


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--embeddings", type=Path, default=None)
    parser.add_argument("--labels", default="100,1000,10000")
    parser.add_argument("--classes", type=int, default=10, help="of the made-up rows")
    parser.add_argument("--pool", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-sklearn", action="store_true")
    parser.add_argument("--skip-refit", action="store_true")
    parser.add_argument("--json", action="store_true", help="what it prints anyway")
    given = parser.parse_args()
    rows, targets = rows_of(given.embeddings, given.classes)
    sizes = [int(part) for part in given.labels.split(",")]
    found = [measured(given, rows, targets, labels) for labels in sizes if labels <= len(rows)]
    name = given.embeddings.name if given.embeddings else "made up"
    report({"embeddings": name, "width": rows.shape[1], "pool": given.pool, "rows": found})


if __name__ == "__main__":
    main()
