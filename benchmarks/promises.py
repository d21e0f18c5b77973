"""How often is more wrong among the accepted images than was promised, and how many are accepted?

    python -m benchmarks.promises EMBEDDINGS.npz … [--replays 300] [--heads 3] [--json]

Each file holds one data set as embeddings: ``train`` (n, d) with the classes ``y_train`` (n,). By
each seed a project of 8,000 images is drawn, and heads learn 300 and 1,000 labels of it, drawn by
chance or, all but the first 100, picked by margin. Then audit sets are drawn again and again for
the same head, and each time a threshold is chosen from the audit labels and all other images at or
above it are accepted.

*chance*: the audit set is drawn from all images that were not learned. *margin*: it is drawn from
images that nothing was picked from, while the others are what the picks have left over, as in a
project that people label. The heads are the product's own, with its calibration.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import report, say
from model.head import Head, fit_head
from model.metrics import wilson_interval
from model.risk import choose_threshold
from model.uncertainty import uncertainty

Array = NDArray[Any]
PROJECT, RESERVED, FIRST = 8000, 3000, 100
LEARNED, PROMISES = (300, 1000), (0.02, 0.05)


@dataclass(frozen=True, eq=False)
class Answered:
    """What a head says of images that it has not learned.

    ``confidence``, ``right``  (n,) of each image
    ``reserved``               (n,) bool: from which alone the audit set is drawn
    """

    confidence: Array
    right: Array
    reserved: Array

    def draw(self, size: int, random: np.random.Generator) -> tuple[Array, Array]:
        """(size,) audit images and the others, which may be accepted."""
        audit = random.choice(np.flatnonzero(self.reserved), size, replace=False)
        if self.reserved.all():
            return audit, np.setdiff1d(np.arange(len(self.right)), audit)
        return audit, np.flatnonzero(~self.reserved)


def heads(embeddings: Array, targets: Array, kind: str, seed: int) -> Iterator[Answered]:
    """One head for each number of labels, on a project drawn by the seed."""
    random = np.random.default_rng([seed, 0])
    rows = random.permutation(len(targets))[:PROJECT]
    x, y = embeddings[rows], targets[rows]
    names = [str(c) for c in range(int(targets.max()) + 1)]

    def fitted(positions: Array) -> Head:
        return fit_head(x[positions], y[positions], classes=names, multiple=False, seed=seed).head

    for labels in LEARNED:
        reserved = np.arange(PROJECT) < RESERVED
        learned = np.arange(PROJECT)[-labels:]
        if kind == "margin":
            learned = learned[:FIRST]
            others = np.setdiff1d(np.flatnonzero(~reserved), learned)
            unsure = uncertainty("margin", fitted(learned).probabilities(x[others]), False)
            learned = np.append(learned, others[np.argsort(-unsure)[: labels - FIRST]])
        else:
            reserved[:] = True
        left = np.setdiff1d(np.arange(PROJECT), learned)
        said = fitted(learned).probabilities(x[left])
        yield Answered(said.max(axis=1), said.argmax(axis=1) == y[left], reserved[left])


def replay(head: Answered, size: int, promised: float, random: np.random.Generator) -> Array:
    """(3,) share accepted, share of it that is wrong, and audit labels still to get (NaN: none)."""
    audit, others = head.draw(size, random)
    found = choose_threshold(
        head.confidence[audit],
        head.right[audit],
        head.confidence[others],
        max_error=promised,
    )
    if found.threshold is None:
        return np.array([0.0, 0.0, found.more if found.more is not None else np.nan])
    taken = others[head.confidence[others] >= found.threshold]
    return np.array([taken.size / others.size, float((~head.right[taken]).mean()), np.nan])


def summary(rows: Array, promised: float) -> dict[str, Any]:
    """Counts over the replays of one cell; shares and errors are of those that accepted."""
    kept = rows[rows[:, 0] > 0]
    broken = int((kept[:, 1] > promised).sum())
    return {
        "replays": len(rows),
        "broken": broken,
        "broken_share_interval": wilson_interval(broken, len(rows)),
        "refused": len(rows) - len(kept),
        "accepted_share": float(np.median(kept[:, 0])) if len(kept) else None,
        "wrong_share": float(kept[:, 1].mean()) if len(kept) else None,
        "worst_wrong_share": float(kept[:, 1].max()) if len(kept) else None,
    }


def measured(file: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each kind of picks, promise and number of audit labels."""
    with np.load(file) as data:
        embeddings, targets = data["train"], data["y_train"].astype(np.int64)
    for kind in ("chance", "margin"):
        made = [h for seed in range(given.heads) for h in heads(embeddings, targets, kind, seed)]
        right = [float(head.right.mean()) for head in made]
        say(
            f"{file.stem}, {kind}: {len(made)} heads, right on {min(right):.3f} to {max(right):.3f}"
        )
        for promised in PROMISES:
            for size in given.audits:
                random = np.random.default_rng([int(promised * 1000), size])
                rows = [
                    replay(made[i % len(made)], size, promised, random)
                    for i in range(given.replays)
                ]
                row = summary(np.array(rows), promised)
                say(f"  at most {promised:.0%}, {size} audit labels: {row}")
                cell = {"data": file.stem, "picked_by": kind, "promise": promised}
                yield cell | {"audit_labels": size} | row


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("embeddings", type=Path, nargs="+", help=".npz files")
    arguments.add_argument("--replays", type=int, default=300, help="of each cell")
    arguments.add_argument("--heads", type=int, default=3, help="projects drawn per kind")
    arguments.add_argument("--audits", type=int, nargs="+", default=[100, 300, 1000])
    arguments.add_argument("--json", action="store_true", help="the only form there is")
    given = arguments.parse_args()
    report({"cells": [row for file in given.embeddings for row in measured(file, given)]})


if __name__ == "__main__":
    main()
