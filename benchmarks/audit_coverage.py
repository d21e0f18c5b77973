"""How often does the audit set's 95% interval hold the true accuracy?

    python -m benchmarks.audit_coverage DATA [--weights FOLDER] [--input-size 0] [--replays 200]
        [--images 20000] [--copies 0] [--labels 200] [--json]

DATA is a folder of class folders, or an ``.npz`` with ``X_train`` and ``y_train``. In each replay,
by its own seed, the images are divided into a pool of 3 in 10 and those to come. The audit set is
drawn from the pool by digests; of the rest, labels are picked by margin in rounds of 20, 50, 100
and so on, doubling, up to ``--labels``, and a head learns them. Its true accuracy is the one on all
images to come. It is estimated from the first 20, 50, 100 and 300 audit labels, and, for
comparison, by cross-validation on the labels that were picked.

With ``--copies M`` only 6 M images are used, and M of them have one to eight near copies each,
whose groups are found as the product finds them.

After each replay, many further audit sets are drawn for the same head from the images to come:
whole replays are few, and these show the intervals' coverage to a fraction of a point. One more
kind of them goes on only until the half-width is at most 3 points.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from backend.labelled_data import ImageSet
from backend.read_data import read_labelled_data
from benchmarks.coverage import Coverage, DrawnCoverage
from benchmarks.embedded import embedded
from benchmarks.report import report, say
from model.audit import (
    TARGET_HALF_WIDTH,
    AuditEstimate,
    audit_accuracy,
    audit_place,
    in_audit,
)
from model.backbones import default_input_size, load_backbone
from model.duplicates import find_leaders
from model.embed import Embedder
from model.head import HeadFit, fit_head
from model.metrics import wilson_interval
from model.uncertainty import uncertainty

Array = NDArray[Any]
SIZES = (20, 50, 100, 300)
SHARE, POOL, FIRST = 0.1, 0.3, 20
SIDE, MAX_PIXELS = 288, 100_000_000
MOST_COPIES = 8


@dataclass(frozen=True, eq=False)
class Images:
    """All images of the replays: (n, d) embeddings, (n,) targets, (n,) leader of their group."""

    embeddings: Array
    targets: Array
    leaders: Array
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Replay:
    """What one seed makes of the images.

    ``fit``     the head and what cross-validation says of it
    ``audit``   (a,) the audit images of the pool, in their order
    ``coming``  (m,) the images to come
    """

    images: Images
    fit: HeadFit
    audit: Array
    coming: Array

    def right(self, rows: Array) -> Array:
        """(n,) whether the head is right on these images."""
        said = self.fit.head.probabilities(self.images.embeddings[rows]).argmax(axis=1)
        return np.asarray(said == self.images.targets[rows])


def replay(images: Images, labels: int, seed: int) -> Replay:
    """Draw a pool and its audit set, pick labels from the rest, and learn them."""
    generator = np.random.default_rng(seed)
    names = {int(leader): digest(seed, int(leader)) for leader in np.unique(images.leaders)}
    order = generator.permutation(list(names))
    rank = np.empty(len(images.leaders), dtype=np.int64)
    rank[order] = np.arange(len(order))
    pool = np.flatnonzero(rank[images.leaders] < POOL * len(order))
    drawn = np.array([in_audit(names[leader], SHARE) for leader in images.leaders[pool].tolist()])
    audit, others = pool[drawn], pool[~drawn]
    places = [(audit_place(names[int(images.leaders[row])]), digest(seed, row)) for row in audit]
    audit = audit[sorted(range(len(audit)), key=places.__getitem__)]
    coming = np.flatnonzero(rank[images.leaders] >= POOL * len(order))
    return Replay(images, picked(images, others, labels, generator), audit, coming)


def digest(seed: int, row: int) -> str:
    """A digest for an image, another one in each replay."""
    return hashlib.sha256(f"{seed}:{row}".encode()).hexdigest()


def picked(images: Images, others: Array, labels: int, generator: np.random.Generator) -> HeadFit:
    """A head that learned labels picked by margin, the first of them at random."""
    learned = generator.permutation(others)[:FIRST]
    while True:
        fit = fit_head(
            images.embeddings[learned],
            images.targets[learned],
            classes=images.classes,
            multiple=False,
            seed=0,
        )
        if len(learned) >= labels:
            return fit
        rest = np.setdiff1d(others, learned)
        unsure = uncertainty("margin", fit.head.probabilities(images.embeddings[rest]), False)
        target = 50 if len(learned) < 50 else 2 * len(learned)
        more = min(target, labels) - len(learned)
        learned = np.append(learned, rest[np.argsort(-unsure, kind="stable")[:more]])


def draw(starts: Array, order: Array, n: int, generator: np.random.Generator) -> Array:
    """n positions, by whole groups in random order, the last one cut off.

    ``order`` are the positions group by group, ``starts`` where each group begins and the end.
    """
    count = len(starts) - 1
    groups = generator.choice(count, min(n, count), replace=False)
    rows = [order[starts[g] : starts[g + 1]] for g in groups]
    return np.concatenate(rows)[:n]


def further(found: Replay, draws: int, seed: int, into: dict[str, DrawnCoverage]) -> None:
    """Many audit sets for one head."""
    generator = np.random.default_rng([seed, 1])
    right, groups = found.right(found.coming), found.images.leaders[found.coming]
    truth, order = float(right.mean()), np.argsort(groups, kind="stable")
    starts = np.append(np.unique(groups[order], return_index=True)[1], len(order))
    for coverage in into.values():
        coverage.by_head.append(Coverage())
    for _ in range(draws):
        for n in SIZES:
            rows = draw(starts, order, n, generator)
            into[str(n)].by_head[-1].add(audit_accuracy(right[rows], groups[rows]), truth)
            into[f"{n}, as if alone"].by_head[-1].add(audit_accuracy(right[rows]), truth)
        rows = draw(starts, order, 4000, generator)
        into["until 3 points"].by_head[-1].add(stopped(right[rows], groups[rows]), truth)


def stopped(right: Array, groups: Array) -> AuditEstimate:
    """The estimate when the half-width is first at most 3 points, looked at every 20 labels."""
    for n in range(20, len(right), 20):
        estimate = audit_accuracy(right[:n], groups[:n])
        if estimate.half_width is not None and estimate.half_width <= TARGET_HALF_WIDTH:
            return estimate
    return AuditEstimate(None, None, None, len(right), 0, 0.0)


def picked_estimate(fit: HeadFit) -> AuditEstimate:
    """What cross-validation on the picked labels says, with the interval of a random sample."""
    accuracy, tested = fit.metrics["accuracy"], fit.metrics["tested"]
    if accuracy is None or not tested:
        return AuditEstimate(None, None, None, 0, 0, 0.0)
    low, high = wilson_interval(accuracy * tested, tested)
    return AuditEstimate(accuracy, low, high, int(tested), int(tested), tested)


def measure(images: Images, replays: int, labels: int, draws: int) -> dict[str, Any]:
    """Coverage over the replays and over the further draws."""
    whole = {str(n): Coverage() for n in SIZES} | {f"{n}, as if alone": Coverage() for n in SIZES}
    many = {name: DrawnCoverage() for name in [*whole, "until 3 points"]}
    chosen, truths = Coverage(), []
    for seed in range(replays):
        found = replay(images, labels, seed)
        truth = float(found.right(found.coming).mean())
        truths.append(truth)
        right, groups = found.right(found.audit), images.leaders[found.audit]
        for n in SIZES:
            if len(right) >= n:
                whole[str(n)].add(audit_accuracy(right[:n], groups[:n]), truth)
                whole[f"{n}, as if alone"].add(audit_accuracy(right[:n]), truth)
        chosen.add(picked_estimate(found.fit), truth)
        further(found, draws, seed, many)
        if seed % 20 == 19:
            say(f"{seed + 1} replays: {whole['100'].summary()}")
    return {
        "true_accuracy": {"mean": round(float(np.mean(truths)), 4)}
        | {"lowest": round(min(truths), 4), "highest": round(max(truths), 4)},
        "replays": {name: coverage.summary() for name, coverage in whole.items()},
        "picked_labels": chosen.summary(),
        "further_draws": {name: coverage.summary() for name, coverage in many.items()},
    }


def near_copy(row: int, image: Image.Image) -> Image.Image:
    """A little brighter or darker, and saved again."""
    generator = np.random.default_rng(row)
    changed = ImageEnhance.Brightness(image).enhance(generator.uniform(0.8, 1.2))
    file = io.BytesIO()
    changed.save(file, "JPEG", quality=int(generator.integers(95, 101)))
    return Image.open(file).convert("RGB")


def gather(given: argparse.Namespace) -> tuple[Images, dict[str, Any]]:
    """The images of the replays, and what is to be said of them."""
    data = read_labelled_data(given.data, seed=0, side=SIDE, max_pixels=MAX_PIXELS)
    order = np.random.default_rng(0).permutation(len(data.train))[: given.images]
    part = data.train.at(order)
    side = given.input_size or default_input_size(min(part.load(0).size))
    backbone = load_backbone(
        given.backbone, input_size=side, weights_dir=given.weights, cache_dir=given.cache
    )
    embedder, name = Embedder(backbone), given.data.stem
    vectors, targets = embedded(embedder, part, name, given.cache), part.targets
    said: dict[str, Any] = {"data": data.name, "backbone": backbone.identity}
    if given.copies:
        copies = copied(part, given.copies)
        near = embedded(embedder, copies, f"{name}-copies", given.cache, near_copy)
        kept = 6 * given.copies
        vectors = np.concatenate([vectors[:kept], near])
        targets = np.concatenate([targets[:kept], copies.targets])
        said["copies"] = len(near)
    leaders = find_leaders(vectors)
    sizes = np.bincount(leaders)
    said |= {
        "images": len(vectors),
        "groups": int((sizes > 0).sum()),
        "in_groups_of_several": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max()),
    }
    return Images(vectors, targets, leaders, data.classes), said


def copied(images: ImageSet, count: int) -> ImageSet:
    """The first ``count`` images, each one to eight times."""
    return images.at(np.repeat(np.arange(count), np.arange(count) % MOST_COPIES + 1))


def table(found: dict[str, Any]) -> str:
    """The coverage, one line for each kind of estimate."""
    lines = [json.dumps({k: v for k, v in found.items() if not isinstance(v, dict)})]
    rows = {f"replays, {k}": v for k, v in found["replays"].items()}
    rows |= {f"draws, {k}": v for k, v in found["further_draws"].items()}
    rows["cross-validated picked labels"] = found["picked_labels"]
    for name, row in rows.items():
        if row["told"]:
            lines.append(
                f"{name:32} held {row['held']:.1%} ({row['low']:.1%} to {row['high']:.1%}) of "
                f"{row['told']}, half-width {row['half_width']:.1%}, bias {row['bias']:+.1%}"
            )
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--backbone", default="mobilenet_v2")
    arguments.add_argument(
        "--input-size", type=int, default=0, help="0: what the images' size asks"
    )
    arguments.add_argument("--weights", type=Path, default=None, help="folder with weights")
    arguments.add_argument("--cache", type=Path, default=Path(".cache/embedded"))
    arguments.add_argument("--replays", type=int, default=200)
    arguments.add_argument("--images", type=int, default=20_000)
    arguments.add_argument("--copies", type=int, default=0, help="images that have near copies")
    arguments.add_argument("--labels", type=int, default=200, help="picked by the queue")
    arguments.add_argument("--draws", type=int, default=50, help="further audit sets a replay")
    arguments.add_argument("--json", action="store_true", help="one JSON object, not a table")
    given = arguments.parse_args()
    images, said = gather(given)
    found = said | measure(images, given.replays, given.labels, given.draws)
    if given.json:
        report(found)
    else:
        print(table(found))


if __name__ == "__main__":
    main()
