"""Does the comparison of the queue with chance say what is true, and when is choosing switched off?

    python -m benchmarks.payoff DATA... [--queues random,auto,confident,narrow] [--seeds 20]
        [--axes 64] [--size 160] [--weights FOLDER] [--cache FOLDER]

A data set is labelled anew by a queue, with an audit set of a tenth of all labels beside it, and
compared whenever the audit set has grown by half. True is what the same two sides get on test
images, the random side as a mean of five draws from the whole pool. Queues are strategies of the
product, of which ``random`` is the null case, where choosing neither helps nor hurts; and two that
do harm:

* ``confident``  the surest first, which teaches next to nothing;
* ``narrow``     the likeliest of one class first.

``--axes`` reduces the embeddings to their first principal axes, which makes a replay ten times as
fast and a head some points worse. ``switched_off`` counts the replays in which choosing was
switched off at this look or before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_embeddings import LabelledEmbeddings, add_arguments, load_embeddings
from benchmarks.replays import Parts, fitted, next_batch, parts, picks, said
from benchmarks.report import report, say
from model.choosing import should_choose
from model.head import Head
from model.payoff import Comparison, Labelled, Stage, Verdict, comparable, compare_picks

Array = NDArray[Any]
HARMFUL = ("confident", "narrow")
LOOKS = (50, 75, 113, 170, 255)
SHARE, DRAWS = 0.1, 5


@dataclass(frozen=True)
class Look:
    """One comparison, with the difference that is true."""

    comparison: Comparison
    truth: float
    switched: bool


def reduced(data: LabelledEmbeddings, axes: int) -> LabelledEmbeddings:
    """The data on its first principal axes, found on 3,000 training images."""
    sample = data.train[:3000].astype(np.float32)
    middle = sample.mean(axis=0)
    directions = np.linalg.svd(sample - middle, full_matrices=False)[2][:axes].T
    train, test = ((x.astype(np.float32) - middle) @ directions for x in (data.train, data.test))
    return replace(data, train=train, test=test)


def harmful(head: Head | None, images: Parts, done: Array, queue: str, count: int) -> Array:
    """The next images by a queue that nobody should have."""
    if head is None:
        return np.arange(count)
    p = head.probabilities(images.pool)
    first = p[:, 0] if queue == "narrow" else p.max(axis=1)
    first[done] = -1
    return np.argsort(-first, kind="stable")[:count]


def labelled(
    images: Parts, classes: Sequence[str], queue: str, seed: int, most: int
) -> NDArray[np.int64]:
    """Positions in the pool in the order in which the queue had them labelled."""
    generator = np.random.default_rng([seed, 2])
    done, head = np.zeros(0, dtype=np.int64), None
    while len(done) < most:
        batch = next_batch(len(done), classes)
        if queue in HARMFUL:
            fresh = harmful(head, images, done, queue, batch)
        else:
            fresh = picks(head, images, done, queue, batch, generator)
        done = np.append(done, fresh)
        head = fitted(images, done, classes, seed)
    return done[:most]


def looks(data: LabelledEmbeddings, queue: str, seed: int, largest: int) -> Iterator[Look]:
    """Both comparisons at every look at an audit set of up to ``largest`` labels."""
    images = parts(data, seed)
    sizes = [a for a in LOOKS if a <= min(largest, len(images.audit))]
    done = labelled(images, data.classes, queue, seed, round(sizes[-1] * (1 - SHARE) / SHARE))
    history: list[Comparison] = []
    switched = False
    for audited in sizes:
        rows = done[: round(audited * (1 - SHARE) / SHARE)]
        picked = Labelled(images.pool[rows], images.y_pool[rows])
        audit = Labelled(images.audit[:audited], images.y_audit[:audited])
        for stage in Stage:
            found = compare_picks(
                picked,
                audit,
                stage=stage,
                classes=data.classes,
                multiple=False,
                seed=seed,
                pool=images.prior,
            )
            history.append(found)
            choice = should_choose(history, found.learned + found.compared)
            switched = switched or not choice.choose
            yield Look(found, true_difference(images, rows, stage, data.classes, seed), switched)


def true_difference(
    images: Parts, rows: NDArray[np.int64], stage: Stage, classes: Sequence[str], seed: int
) -> float:
    """Accuracy on the test images with the queue's picks, less that with random ones."""
    m = comparable(round(len(rows) * SHARE / (1 - SHARE)))
    base, ours = (rows[:0], rows[:m]) if stage is Stage.FIRST else (rows[:-m], rows[-m:])
    generator = np.random.default_rng([seed, 3])

    def accuracy(learned: NDArray[np.int64]) -> float:
        head = fitted(images, learned, classes, seed)
        return float((said(head, images.test) == images.y_test).mean())

    others = np.setdiff1d(np.arange(len(images.pool)), base)
    drawn = [np.append(base, generator.permutation(others)[:m]) for _ in range(DRAWS)]
    return accuracy(np.append(base, ours)) - float(np.mean([accuracy(d) for d in drawn]))


def summary(found: list[Look]) -> dict[str, Any]:
    """What many replays have in common."""
    told = [x for x in found if x.comparison.difference is not None]
    held = [(x.comparison.low or 0) <= x.truth <= (x.comparison.high or 0) for x in told]
    by_images = [
        abs((x.comparison.difference or 0) - x.truth) <= 1.96 * (x.comparison.image_error or 0)
        for x in told
    ]
    widths = [(x.comparison.high or 0) - (x.comparison.low or 0) for x in told]
    verdicts = [x.comparison.verdict for x in found]
    return {
        "replays": len(found),
        "labels": found[0].comparison.learned + found[0].comparison.compared,
        "true_difference": round(float(np.mean([x.truth for x in found])), 4),
        "seen_difference": round(float(np.mean([x.comparison.difference or 0 for x in told])), 4),
        "half_width": round(float(np.mean(widths)) / 2, 4),
        "interval_held": round(float(np.mean(held)), 3),
        "image_interval_held": round(float(np.mean(by_images)), 3),
        **{verdict.value: round(verdicts.count(verdict) / len(found), 3) for verdict in Verdict},
        "switched_off": round(float(np.mean([x.switched for x in found])), 3),
    }


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add_arguments(arguments)
    arguments.add_argument("--queues", default="random,auto,confident,narrow")
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--axes", type=int, default=0, help="0: the embeddings as they are")
    arguments.add_argument("--largest", type=int, default=170, help="audit labels at the end")
    given = arguments.parse_args()
    found: dict[str, list[Look]] = {}
    for path in given.data:
        data = load_embeddings(path, given)
        data = reduced(data, given.axes) if given.axes else data
        for queue in given.queues.split(","):
            for seed in range(given.seeds):
                for look in looks(data, queue, seed, given.largest):
                    of = look.comparison
                    found.setdefault(f"{data.name} {queue} {of.stage} {of.audited}", []).append(
                        look
                    )
                say(f"{data.name} {queue} {seed}: {of.sentence}")
            for key in [k for k in found if k.startswith(f"{data.name} {queue} ")]:
                print(key, summary(found[key]), file=sys.stderr)
    report({"axes": given.axes, "looks": {key: summary(of) for key, of in found.items()}})


if __name__ == "__main__":
    main()
