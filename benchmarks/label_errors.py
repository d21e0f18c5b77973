"""How many wrong labels are found, when some are made wrong on purpose.

    python -m benchmarks.label_errors EMBEDDINGS [--labels 2000,4000] [--flipped 0.1] [--seeds 3]
        [--shown 100] [--json]

EMBEDDINGS is an ``.npz`` with ``train`` (n, d) and ``y_train`` (n,). Of labels drawn by the seed, a
share is replaced by another class, each as likely as the others. The product's own head is fitted
on them, and four lists are compared, the worst first:

- ``tiebreak``: what :func:`model.label_errors.suspicious_labels` finds, then the others by their
  doubt. That is the order of the least self-confidence, and of the out-of-fold loss
- ``margin``: the least margin between the given class and the likeliest other one, out of fold
- ``confident learning``: what is off the diagonal of the confident joint, then the others, each by
  doubt
- ``training loss``: the largest loss of a head that has learned these very labels

Of each: the share of flipped labels among the first that are shown, and the share of all flipped
labels among as many as were flipped. Of the labels that the product itself calls suspicious: how
many they are, the share of them that was flipped, and the share of the flipped that they are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import report, say
from model.head import FOLDS, fit_head
from model.label_errors import model_doubt, off_diagonal, suspicious_labels

Array = NDArray[Any]
Orders = dict[str, NDArray[np.int64]]


def flipped(targets: Array, share: float, classes: int, generator: np.random.Generator) -> Array:
    """The labels with ``share`` of them replaced by another class."""
    wrong = targets.copy()
    chosen = generator.choice(len(targets), round(share * len(targets)), replace=False)
    wrong[chosen] = (targets[chosen] + generator.integers(1, classes, len(chosen))) % classes
    return wrong


def ranked(rows: Array, given: Array, classes: int, seed: int) -> tuple[Orders, int]:
    """Each list as positions, and how many the product shows."""
    names = [str(i) for i in range(classes)]
    fit = fit_head(rows, given, classes=names, multiple=False, seed=seed)
    said = fit.out_of_fold
    if said is None:
        raise SystemExit(f"{len(given)} labels are too few for {FOLDS} folds.")
    everyone = np.arange(len(given))
    by_doubt = np.argsort(-model_doubt(said, given), kind="stable")
    shown = np.array([each.position for each in suspicious_labels(said, given)], dtype=np.int64)
    counted = off_diagonal(said, given)[by_doubt]
    others = said.copy()
    others[everyone, given] = 0
    learned = fit.head.probabilities(rows)[everyone, given]
    return {
        "tiebreak": np.concatenate([shown, by_doubt[~np.isin(by_doubt, shown)]]),
        "margin": np.argsort(said[everyone, given] - others.max(axis=1), kind="stable"),
        "confident learning": np.concatenate([by_doubt[counted], by_doubt[~counted]]),
        "training loss": np.argsort(learned, kind="stable"),
    }, len(shown)


def one_replay(
    rows: Array, targets: Array, share: float, shown: int, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Figures of each list, and of what the product calls suspicious."""
    classes = int(targets.max()) + 1
    given = flipped(targets, share, classes, np.random.default_rng([seed, 1]))
    started = time.perf_counter()
    orders, listed = ranked(rows, given, classes, seed)
    seconds = time.perf_counter() - started
    wrong = given != targets
    count = int(wrong.sum())
    return (
        {
            name: {
                "first": float(wrong[order[:shown]].mean()),
                "recall": float(wrong[order[:count]].mean()),
            }
            for name, order in orders.items()
        },
        {
            "suspicious": listed,
            "precision": float(wrong[orders["tiebreak"][:listed]].mean()) if listed else 0.0,
            "recall": float(wrong[orders["tiebreak"][:listed]].sum() / max(count, 1)),
            "seconds": seconds,
        },
    )


def compared(rows: Array, targets: Array, size: int, given: argparse.Namespace) -> dict[str, Any]:
    """Means, least and most over the seeds."""
    found: list[dict[str, dict[str, float]]] = []
    listed: list[dict[str, float]] = []
    for seed in range(given.seeds):
        drawn = np.random.default_rng([seed, 0]).choice(len(rows), size, replace=False)
        figures, own = one_replay(rows[drawn], targets[drawn], given.flipped, given.shown, seed)
        found.append(figures)
        listed.append(own)
        say(
            f"{size} labels, seed {seed}: "
            + ", ".join(_line(figures, n) for n in figures)
            + f"; {own}"
        )
    return {
        "labels": size,
        "flipped": round(given.flipped * size),
        "suspicious": listed,
        "lists": {
            name: {
                key: {
                    "mean": float(np.mean(values)),
                    "least": float(np.min(values)),
                    "most": float(np.max(values)),
                }
                for key in ("first", "recall")
                for values in [[one[name][key] for one in found]]
            }
            for name in found[0]
        },
    }


def _line(figures: dict[str, dict[str, float]], name: str) -> str:
    return f"{name} {figures[name]['first']:.0%} / {figures[name]['recall']:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--labels", default="2000,4000", help="how many, with commas between")
    parser.add_argument("--flipped", type=float, default=0.1, help="share of labels made wrong")
    parser.add_argument("--shown", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    with np.load(given.embeddings) as kept:
        rows, targets = kept["train"], kept["y_train"].astype(np.int64)
    sizes = [int(size) for size in given.labels.split(",")]
    rounds = [compared(rows, targets, size, given) for size in sizes]
    if given.json:
        report({"data": given.embeddings.stem, "shown": given.shown, "rounds": rounds})


if __name__ == "__main__":
    main()
