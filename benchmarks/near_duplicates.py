"""How near are copies of an image to it, and how near is the nearest other image?

    python -m benchmarks.near_duplicates DATA [--backbone mobilenet_v2] [--weights FOLDER]
        [--input-size 0] [--images 300] [--pool 10000]

DATA is a folder of class folders, or an ``.npz`` with ``X_train`` and ``y_train``. A pool of its
training images is embedded, and copies of the first of them, each changed in one way. For several
thresholds: the share of the copies that are found, the share of images that have another image of
the pool as near, and the groups that the pool falls into.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from backend.labelled_data import ImageSet
from backend.read_data import read_labelled_data
from benchmarks.embedded import embedded
from benchmarks.report import report
from model.backbones import default_input_size, load_backbone
from model.duplicates import find_leaders
from model.embed import Embedder
from model.head import power_normalise

Array = NDArray[Any]
Change = Callable[[Image.Image], Image.Image]
THRESHOLDS = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
SIDE, MAX_PIXELS = 288, 100_000_000


def saved_again(quality: int, image: Image.Image) -> Image.Image:
    """As it comes back from a JPEG file of this quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def resized(share: float, image: Image.Image) -> Image.Image:
    """With sides of this share of what they were."""
    width, height = (max(1, round(share * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def cropped(share: float, image: Image.Image) -> Image.Image:
    """Without this share of each side's length at all four edges, one pixel at least."""
    width, height = image.size
    x, y = (max(1, round(share * side)) for side in image.size)
    return image.crop((x, y, width - x, height - y))


def brightened(factor: float, image: Image.Image) -> Image.Image:
    """Every pixel times this factor."""
    return ImageEnhance.Brightness(image).enhance(factor)


CHANGES: dict[str, Change] = {
    "JPEG 90": partial(saved_again, 90),
    "JPEG 70": partial(saved_again, 70),
    "JPEG 40": partial(saved_again, 40),
    "resized to 75%": partial(resized, 0.75),
    "resized to 50%": partial(resized, 0.5),
    "cropped by 2%": partial(cropped, 0.02),
    "cropped by 5%": partial(cropped, 0.05),
    "brightness x 0.8": partial(brightened, 0.8),
    "brightness x 1.25": partial(brightened, 1.25),
    "mirrored": ImageOps.mirror,
}


def pool_and_copies(
    embedder: Embedder, images: ImageSet, copied: int, name: str, cache: Path
) -> dict[str, Array]:
    """Embeddings of the pool, and by the name of the change of copies of its first images."""
    first = images.at(np.arange(min(copied, len(images))))
    found = {"pool": embedded(embedder, images, name, cache)}
    for what, change in CHANGES.items():
        words = f"{name}-{what}".replace(" ", "-").replace("%", "")
        found[what] = embedded(embedder, first, words, cache, partial(_unnumbered, change))
    return found


def _unnumbered(change: Change, _: int, image: Image.Image) -> Image.Image:
    return change(image)


def nearest_others(pool: Array, count: int) -> Array:
    """(count,) similarity of each of the first rows to the nearest other row."""
    unit = power_normalise(pool)
    similarities = unit[:count] @ unit.T
    similarities[np.arange(count), np.arange(count)] = -1
    return np.asarray(similarities.max(axis=1))


def groups(pool: Array, targets: Array, similarity: float) -> dict[str, Any]:
    """What the pool falls into at this threshold, and how often a group mixes classes."""
    started = time.process_time()
    leaders = find_leaders(pool, similarity=similarity)
    seconds = time.process_time() - started
    sizes = np.bincount(leaders)
    members = leaders != np.arange(len(leaders))
    mixed = targets[leaders[members]] != targets[members]
    return {
        "groups": int((sizes > 0).sum()),
        "images_in_groups_of_several": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max()),
        "members_of_another_class_than_their_leader": int(mixed.sum()),
        "effective_share": round(len(pool) / float((sizes.astype(float) ** 2).sum()), 4),
        "seconds_of_a_core": round(seconds, 2),
    }


def quantiles(similarities: Array) -> dict[str, float]:
    """Where the similarities lie."""
    shares = (0, 0.01, 0.05, 0.5, 0.95, 0.99, 1)
    found = np.quantile(similarities, shares)
    return {f"{100 * share:g}%": round(float(v), 4) for share, v in zip(shares, found, strict=True)}


def measure(embeddings: dict[str, Array], targets: Array) -> dict[str, Any]:
    """Similarities of copies and of other images, and what each threshold makes of them."""
    pool = embeddings.pop("pool")
    count = len(next(iter(embeddings.values())))
    unit = power_normalise(pool[:count])
    near = {
        what: (unit * power_normalise(copies)).sum(axis=1) for what, copies in embeddings.items()
    }
    near["nearest other image"] = nearest_others(pool, count)
    return {
        "similarities": {what: quantiles(found) for what, found in near.items()},
        "as_near": {
            str(t): {what: round(float((found >= t).mean()), 4) for what, found in near.items()}
            for t in THRESHOLDS
        },
        "groups": {str(t): groups(pool, targets, t) for t in THRESHOLDS},
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--backbone", default="mobilenet_v2")
    arguments.add_argument(
        "--input-size", type=int, default=0, help="0: what the images' size asks"
    )
    arguments.add_argument("--weights", type=Path, default=None, help="folder with weights")
    arguments.add_argument("--cache", type=Path, default=Path(".cache/embedded"))
    arguments.add_argument("--images", type=int, default=300, help="of which copies are made")
    arguments.add_argument("--pool", type=int, default=10_000)
    return arguments.parse_args()


def main() -> None:
    """Entry point."""
    given = parsed()
    data = read_labelled_data(given.data, seed=0, side=SIDE, max_pixels=MAX_PIXELS)
    order = np.random.default_rng(0).permutation(len(data.train))[: given.pool]
    images = data.train.at(order)
    side = given.input_size or default_input_size(min(images.load(0).size))
    backbone = load_backbone(
        given.backbone, input_size=side, weights_dir=given.weights, cache_dir=given.cache
    )
    name = given.data.stem
    found = pool_and_copies(Embedder(backbone), images, given.images, name, given.cache)
    report(
        {"data": data.name, "backbone": backbone.identity, "pool": len(images)}
        | measure(found, images.targets)
    )


if __name__ == "__main__":
    main()
