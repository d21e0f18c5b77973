"""How far probabilities are from the shares that come true, before and after the temperature.

    python -m benchmarks.calibration DATA [--weights FOLDER] [--cache FOLDER] [--labels 1000]

DATA is CIFAR-10 as one ``.npz`` with ``X_train`` and ``y_train``, of which 8,000 images are drawn.
Heads are fitted on labels drawn at random, on MobileNetV2's features, and judged on images that
neither they nor the network have seen.

*single*: one of ten classes, judged on 5,000 images. Beside the head as it is chosen, two whose
penalty is chosen in other ways from the same fits: by log loss without a temperature, and by
accuracy. *multiple*: collages of four images, and for each class whether it is among them; one
temperature and one threshold for each class; judged on 2,500 collages of images that no collage
to learn from shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import report, say
from model.backbones import load_backbone
from model.calibrate import expected_calibration_error, fit_temperature
from model.crossfit import PENALTIES, calibrated
from model.embed import Embedder
from model.folds import class_folds
from model.head import FOLDS, HeadFit, fit_head, power_normalise
from model.linear import fit_linear, principal_axes
from model.metrics import accuracy, exact_match, log_loss
from model.thresholds import f1_each

Array = NDArray[Any]
IMAGES, JUDGED = 8000, 5000
COLLAGES, COLLAGES_JUDGED = 1500, 2500
ONE = np.ones(1)


@dataclass(frozen=True)
class Labelled:
    """Embeddings (n, d) with their targets; the last ``judged`` of an order are kept unseen."""

    embeddings: Array
    targets: Array
    judged: int
    shuffled: bool

    def split(self, labels: int, seed: int) -> Split:
        """Rows to fit on, drawn with the seed, and others to judge by."""
        n, generator = len(self.targets), np.random.default_rng(seed)
        if self.shuffled:
            order = generator.permutation(n)
        else:
            order = np.append(generator.permutation(n - self.judged), np.arange(n)[-self.judged :])
        fitted, unseen = order[:labels], order[-self.judged :]
        return Split(
            self.embeddings[fitted],
            self.targets[fitted],
            self.embeddings[unseen],
            self.targets[unseen],
        )


@dataclass(frozen=True)
class Split:
    """What one head is fitted on, and what it is judged by."""

    embeddings: Array
    targets: Array
    unseen: Array
    truth: Array


def embedded(embedder: Embedder, pictures: Array, cache: Path) -> Array:
    """(n, h, w, 3) uint8 -> (n, d) float16, kept in the file ``cache``."""
    if cache.exists():
        return np.asarray(np.load(cache))
    say(f"embedding {len(pictures)} images")
    found = embedder.embed([Image.fromarray(picture) for picture in pictures])
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, found)
    return found


def collages(pictures: Array, labels: Array, count: int, seed: int) -> tuple[Array, Array]:
    """(count, 64, 64, 3) collages of four pictures drawn at random, and (count, 10) flags."""
    drawn = np.random.default_rng(seed).integers(0, len(pictures), (count, 4))
    a, b, c, d = (pictures[drawn[:, i]] for i in range(4))
    whole = np.concatenate([np.concatenate([a, b], axis=2), np.concatenate([c, d], axis=2)], axis=1)
    return whole, np.eye(10, dtype=bool)[labels[drawn]].any(axis=1)


def gather(given: argparse.Namespace) -> Iterator[Labelled]:
    """Single images, then collages, embedded."""
    backbone = load_backbone(
        "mobilenet_v2", input_size=given.size, weights_dir=given.weights, cache_dir=given.cache
    )
    embedder = Embedder(backbone)

    def embeddings(name: str, pictures: Array) -> Array:
        return embedded(embedder, pictures, given.cache / f"{name}-{embedder.identity}.npy")

    data = np.load(given.data)
    order = np.random.default_rng(0).permutation(len(data["y_train"]))[:IMAGES]
    images, labels = data["X_train"][order], data["y_train"][order].astype(np.int64)
    yield Labelled(embeddings("images", images), labels, JUDGED, shuffled=True)
    half = IMAGES // 2
    learn, flags = collages(images[:half], labels[:half], COLLAGES, seed=1)
    judge, truth = collages(images[half:], labels[half:], COLLAGES_JUDGED, seed=2)
    vectors = embeddings("collages", np.concatenate([learn, judge]))
    yield Labelled(vectors, np.append(flags, truth, 0), COLLAGES_JUDGED, shuffled=False)


def judged(logits: Array, temperature: Array, truth: Array) -> dict[str, float]:
    """Calibration error and log loss on unseen images, without the temperature and with it."""
    multiple = truth.ndim == 2
    before, after = calibrated(logits, ONE, multiple), calibrated(logits, temperature, multiple)
    found = {
        "ece_before": expected_calibration_error(before, truth),
        "ece_after": expected_calibration_error(after, truth),
        "log_loss_before": log_loss(before, truth),
        "log_loss_after": log_loss(after, truth),
        "temperature": float(temperature.mean()),
    }
    if not multiple:
        found["accuracy"] = accuracy(after, truth)
    return found


def other_heads(split: Split, seed: int) -> dict[str, dict[str, float]]:
    """Heads of the same penalties, chosen by log loss without a temperature, and by accuracy."""
    targets = split.targets
    folds = class_folds(targets, FOLDS, np.random.default_rng(seed))
    assert folds is not None
    axes = principal_axes(power_normalise(split.embeddings).astype(np.float64))
    included = np.ones((len(targets), FOLDS + 1, 1))
    included[np.arange(len(targets)), folds] = 0
    flags, start, best = np.eye(10)[targets], None, {"log loss": np.inf, "accuracy": np.inf}
    chosen: dict[str, dict[str, float]] = {}
    unseen = power_normalise(split.unseen)
    for penalty in PENALTIES:
        start = fit_linear(axes, flags, included, penalty, multiple=False, start=start)
        held = np.einsum("nr,rnk->nk", axes.scores, start[:-1, folds]) + start[-1, folds]
        weights, bias = axes.unfold(start[:-1, -1], start[-1, -1])
        losses = {
            "log loss": log_loss(calibrated(held, ONE, False), targets),
            "accuracy": -accuracy(held, targets),
        }
        for rule, loss in losses.items():
            if loss < best[rule]:
                best[rule] = loss
                temperature = fit_temperature(held, targets, False)
                figures = judged(unseen @ weights + bias, temperature, split.truth)
                chosen[rule] = figures | {"penalty": penalty}
    return chosen


def ticks(fit: HeadFit, split: Split) -> dict[str, float]:
    """F1 and exact match of ticks from 1/2 on, and from the thresholds on."""
    p = fit.head.probabilities(split.unseen)
    found = {}
    for name, thresholds in (("half", np.full(p.shape[1], 0.5)), ("own", fit.head.thresholds)):
        assert thresholds is not None
        said = p >= thresholds
        found[f"macro_f1_{name}"] = float(f1_each(said, split.truth).mean())
        every = f1_each(said.reshape(-1, 1), split.truth.reshape(-1, 1))
        found[f"micro_f1_{name}"] = float(every[0])
        found[f"exact_match_{name}"] = exact_match(p, split.truth, thresholds)
    return found


def measure(split: Split, seed: int) -> dict[str, dict[str, float]]:
    """The figures of each head for one draw of labels."""
    multiple = split.targets.ndim == 2
    fit = fit_head(
        split.embeddings,
        split.targets,
        classes=[str(c) for c in range(10)],
        multiple=multiple,
        seed=seed,
    )
    figures = judged(fit.head.logits(split.unseen), fit.head.temperature, split.truth)
    figures["penalty"] = float(fit.metrics["penalty"] or 0)
    if multiple:
        return {"multiple": figures | ticks(fit, split)}
    return {"single": figures} | other_heads(split, seed)


def mean(draws: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The mean of each figure, and the calibration errors of every draw."""
    found: dict[str, Any] = {
        key: round(float(np.mean([d[key] for d in draws])), 4) for key in draws[0]
    }
    for key in ("ece_before", "ece_after"):
        found[f"{key}_each"] = [round(d[key], 4) for d in draws]
    return found


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--weights", type=Path, help="folder with the pretrained weights")
    arguments.add_argument("--cache", type=Path, default=Path(".cache/calibration"))
    arguments.add_argument("--labels", type=int, default=1000)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--size", type=int, default=128, help="input size in pixels")
    given = arguments.parse_args()
    draws: dict[str, list[dict[str, float]]] = {}
    for labelled in gather(given):
        for seed in range(given.seeds):
            for name, figures in measure(labelled.split(given.labels, seed), seed).items():
                draws.setdefault(name, []).append(figures)
                before, after = figures["ece_before"], figures["ece_after"]
                say(f"{name} {seed}: calibration error {before:.4f}, then {after:.4f}")
    report(
        {
            "labels": given.labels,
            "seeds": given.seeds,
            "size": given.size,
            "heads": {name: mean(found) for name, found in draws.items()},
        }
    )


if __name__ == "__main__":
    main()
