"""Does the gate refuse a retraining on wrong labels, and let one on good labels pass?

    python -m benchmarks.gate_labels EMBEDDINGS.npz [--repetitions 20] [--learned 500] [--new 500]

The file holds ``embeddings`` (n, d) and ``labels`` (n,) whole numbers from 0; ``--cifar FOLDER``
makes it first, from ``cifar10.npz`` and MobileNetV2's weights in that folder.

In each repetition, with its own seed, images are drawn anew: some held out, a champion trained on
clean labels of some others, and then retrained on those and as many new ones again:

* ``clean``           all labels are right, which must pass;
* ``wrong``           40% of all labels that the challenger learns are made wrong, the held-out ones
  are right, which must be refused;
* ``wrong everywhere``  40% of the held-out labels as well;
* ``wrong new``       40% of the new labels only, a fifth of all that it learns;
* ``few clean``, ``few wrong``  with 20 held-out labels, so that the new ones judge.

The true gain of each is measured on 2,000 further images.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.dataset import LabelledImages
from backend.id_ranges import ranges_of
from backend.judging import TRAINED_ON, Challenger, judge
from backend.label_config import Control
from model.artifact import Artifact
from model.gate import GateDecision, Shown
from model.head import HeadFit, fit_head

MARGIN, WRONG, TESTED = 0.02, 0.4, 2000
NET = "features"


@dataclass(frozen=True)
class Sizes:
    """How many labels are held out, the champion learns, and come new."""

    held_out: int
    learned: int
    new: int


MANY, FEW = Sizes(250, 500, 500), Sizes(20, 200, 200)


def spoiled(
    labels: NDArray[np.int64], share: float, classes: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """The labels, of which exactly this share is moved to another class, each as likely."""
    found = labels.copy()
    rows = random.choice(len(found), round(share * len(found)), replace=False)
    found[rows] = (found[rows] + random.integers(1, classes, len(rows))) % classes
    return found


class Retraining:
    """Images drawn by one seed, a champion from clean labels, and what comes of retraining it."""

    def __init__(
        self, embeddings: NDArray[Any], labels: NDArray[np.int64], sizes: Sizes, seed: int
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.seed, self.sizes = seed, sizes
        classes = int(labels.max()) + 1
        self.control = Control("label", "image", "image", tuple(map(str, range(classes))), False)
        order = self.random.permutation(len(labels))
        used = sizes.held_out + sizes.learned + sizes.new
        self.embeddings, self.labels = embeddings[order[:used]], labels[order[:used]]
        rest = order[used:][:TESTED]
        self.others, self.truth = embeddings[rest], labels[rest]
        learned = slice(sizes.held_out, sizes.held_out + sizes.learned)
        self.champion = self.fit(self.labels, learned)

    def fit(self, labels: NDArray[np.int64], rows: slice) -> HeadFit:
        """A head from these of the labels."""
        return fit_head(
            self.embeddings[rows],
            labels[rows],
            classes=self.control.classes,
            multiple=False,
            seed=self.seed,
        )

    def challenger(
        self, wrong: float, *, only_new: bool = False
    ) -> tuple[NDArray[np.int64], HeadFit]:
        """All labels, and a head from those that are not held out, of which this share is wrong;
        with ``only_new`` the share is one of the new labels, and the champion's own are right."""
        told, held_out = self.labels.copy(), self.sizes.held_out
        first = held_out + self.sizes.learned if only_new else held_out
        told[first:] = self.spoiled(told[first:], wrong)
        return told, self.fit(told, slice(held_out, None))

    def spoiled(self, labels: NDArray[np.int64], share: float) -> NDArray[np.int64]:
        """These labels with a share of them wrong."""
        return spoiled(labels, share, len(self.control.classes), self.random)

    def judged(self, labels: NDArray[np.int64], challenger: HeadFit) -> GateDecision:
        """The gate on the challenger, with these labels."""
        first, rows = self.sizes.held_out, np.arange(len(labels))
        names, held = rows.astype(str), rows < first
        part = LabelledImages(self.control, rows, self.embeddings, labels, held, names, names)
        learned = {TRAINED_ON: {"label": ranges_of(range(first, first + self.sizes.learned))}}
        return judge(
            {NET: [part]},
            Challenger(NET, {"label": challenger.head}, {"label": challenger.out_of_fold}),
            Artifact(1, NET, {"label": self.champion.head}, dict(learned)),
            MARGIN,
        )

    def gain(self, challenger: HeadFit) -> float:
        """What the challenger gains in accuracy on images that nobody has seen."""
        before, after = (
            (found.head.probabilities(self.others).argmax(axis=1) == self.truth).mean()
            for found in (self.champion, challenger)
        )
        return float(after - before)


def retrainings(
    embeddings: NDArray[Any], labels: NDArray[np.int64], seed: int, many: Sizes, few: Sizes
) -> Iterator[tuple[str, GateDecision, float]]:
    """One retraining of each kind: its decision and its true gain."""
    for sizes, name in ((many, ""), (few, "few ")):
        drawn = Retraining(embeddings, labels, sizes, seed)
        told, clean = drawn.challenger(0.0)
        yield f"{name}clean", drawn.judged(told, clean), drawn.gain(clean)
        told, wrong = drawn.challenger(WRONG)
        yield f"{name}wrong", drawn.judged(told, wrong), drawn.gain(wrong)
        if sizes is many:
            told[: sizes.held_out] = drawn.spoiled(told[: sizes.held_out], WRONG)
            yield "wrong everywhere", drawn.judged(told, wrong), drawn.gain(wrong)
            told, partly = drawn.challenger(WRONG, only_new=True)
            yield "wrong new", drawn.judged(told, partly), drawn.gain(partly)


def embed_cifar(folder: Path, to: Path, count: int = 8000, side: int = 128) -> None:
    """Embeddings of CIFAR-10's first training images in a random order, with their labels."""
    from PIL import Image

    from model.backbones import load_backbone
    from model.embed import Embedder

    backbone = load_backbone("mobilenet_v2", input_size=side, weights_dir=folder, cache_dir=folder)
    with np.load(folder / "cifar10.npz") as data:
        rows = np.random.default_rng(0).permutation(len(data["y_train"]))[:count]
        pictures, labels = data["X_train"][rows], data["y_train"][rows].astype(np.int64)
    found = Embedder(backbone).embed([Image.fromarray(picture) for picture in pictures])
    np.savez(to, embeddings=found, labels=labels)


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("embeddings", type=Path)
    arguments.add_argument("--cifar", type=Path, help="folder with cifar10.npz and weights")
    arguments.add_argument("--repetitions", type=int, default=20)
    arguments.add_argument("--held-out", type=int, default=MANY.held_out)
    arguments.add_argument("--learned", type=int, default=MANY.learned, help="by the champion")
    arguments.add_argument("--new", type=int, default=MANY.new, help="labels of the retraining")
    given = arguments.parse_args()
    if given.cifar:
        embed_cifar(given.cifar, given.embeddings)
    with np.load(given.embeddings) as data:
        embeddings, labels = data["embeddings"], data["labels"]
    many = Sizes(given.held_out, given.learned, given.new)
    found: dict[str, list[tuple[GateDecision, float]]] = {}
    for seed in range(given.repetitions):
        for kind, decision, gain in retrainings(embeddings, labels, seed, many, FEW):
            found.setdefault(kind, []).append((decision, gain))
            print(f"{seed}, {kind}, {gain:+.3f}: {decision.reason}", file=sys.stderr, flush=True)
    print(json.dumps({kind: summary(of) for kind, of in found.items()}, indent=1))


def summary(found: list[tuple[GateDecision, float]]) -> dict[str, Any]:
    """Counts of one kind."""
    decisions, gains = zip(*found, strict=True)
    return {
        "kept": sum(d.promote for d in decisions),
        "refused": sum(not d.promote for d in decisions),
        "shown": {shown: sum(d.shown == shown for d in decisions) for shown in Shown},
        "true_gain": {"mean": float(np.mean(gains)), "low": min(gains), "high": max(gains)},
        "refused_gains": [gain for d, gain in found if not d.promote],
        "first_reason": decisions[0].reason,
    }


if __name__ == "__main__":
    main()
