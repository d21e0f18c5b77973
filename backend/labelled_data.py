"""Labelled images for experiments, and the part of them that an experiment draws.

Files are decoded when they are asked for, never all at once, and exactly as images of Label Studio
are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.decode import decode_image
from backend.errors import DataError, ImageError
from backend.flatten import to_rgb
from model.splits import stratified_subset

Tell = Callable[[int, int], None]


class ImageSource(Protocol):
    """Images by position."""

    def load(self, position: int) -> Image.Image:
        """The image in RGB; :class:`ImageError` when it cannot be had."""

    def size(self, position: int) -> tuple[int, int]:
        """Width and height in pixels as learned from; :class:`ImageError` likewise."""


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images of an (n, h, w), (n, h, w, 1), (n, h, w, 3) or (n, h, w, 4) uint8 array."""

    pixels: NDArray[np.uint8]

    def load(self, position: int) -> Image.Image:
        """Transparency is put on white."""
        image = self.pixels[position]
        return to_rgb(Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image))

    def size(self, position: int) -> tuple[int, int]:
        return self.pixels.shape[2], self.pixels.shape[1]


@dataclass(frozen=True)
class FileImages:
    """Image files, decoded with a shorter side of at most ``side`` pixels."""

    paths: tuple[Path, ...]
    max_pixels: int
    side: int

    def load(self, position: int) -> Image.Image:
        try:
            data = self.paths[position].read_bytes()
        except OSError as error:
            raise ImageError(f"The file cannot be read ({error.strerror}).", retry=False) from None
        return decode_image(data, max_pixels=self.max_pixels, side=self.side)

    def size(self, position: int) -> tuple[int, int]:
        return self.load(position).size


@dataclass(frozen=True, eq=False)
class ImageSet:
    """n images with one class each; ``targets`` is (n,) int64, positions in the classes."""

    source: ImageSource
    rows: NDArray[np.int64]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, position: int) -> Image.Image:
        """Image ``position``, 0 to n - 1, in RGB."""
        return self.source.load(int(self.rows[position]))

    def at(self, positions: NDArray[np.int64]) -> ImageSet:
        """The images at these positions, in their order."""
        return replace(self, rows=self.rows[positions], targets=self.targets[positions])


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Images to learn from and images to be judged on.

    ``name``      what to call it: the file's or folder's name
    ``classes``   k names
    ``held_out``  there was no test part: the test images are a share of each class
    ``digest``    16 hex digits that differ when the data does: of the bytes of an ``.npz`` file,
                  of the names, sizes and times of the files in a folder
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    held_out: bool
    digest: str


@dataclass(frozen=True, eq=False)
class Drawn:
    """The images of an experiment, each known to be readable.

    ``shorter_side``  median of the shorter sides of the training images, in pixels
    ``left_out``      (which, why) of images that cannot be read
    """

    train: ImageSet
    test: ImageSet
    shorter_side: int
    left_out: list[tuple[str, str]] = field(default_factory=list)


def draw(
    data: LabelledData,
    *,
    labels: int | None = None,
    test: int | None = None,
    seed: int,
    on_progress: Tell | None = None,
) -> Drawn:
    """At most ``labels`` training and ``test`` test images of every class's share, by the seed.

    Each one is decoded once; those that cannot be are left out. ``on_progress`` gets how many of
    how many were looked at. :class:`DataError` when fewer than two classes are left to learn or
    no image to test.
    """
    parts = [
        subset(data.train, labels, np.random.default_rng([seed, 0])),
        subset(data.test, test, np.random.default_rng([seed, 1])),
    ]
    total, looked = sum(map(len, parts)), 0
    readable, left_out, sides = [], [], []
    for part in parts:
        good = []
        for position, row in enumerate(part.rows):
            try:
                sides.append(min(part.source.size(int(row))))
                good.append(position)
            except ImageError as error:
                left_out.append((image_name(part, int(row)), error.message))
            looked += 1
            if on_progress is not None:
                on_progress(looked, total)
        readable.append(part.at(np.array(good, dtype=np.int64)))
    train, judged = readable
    if len(np.unique(train.targets)) < 2:
        raise DataError(
            f"{data.name}: {len(train)} training images of "
            f"{len(np.unique(train.targets))} class(es) can be read; 2 classes are needed.",
            mend="Ask for more labels, or mend the images.",
        )
    if not len(judged):
        raise DataError(f"{data.name}: none of the test images can be read.")
    return Drawn(train, judged, int(np.median(sides[: len(train)])), left_out)


def subset(part: ImageSet, size: int | None, generator: np.random.Generator) -> ImageSet:
    """At most ``size`` images, of every class its share; all of them without a size."""
    if size is None or size >= len(part):
        return part
    return part.at(stratified_subset(part.targets, size, generator))


def image_name(part: ImageSet, row: int) -> str:
    """What to call an image: its file, or its row in the array."""
    return str(part.source.paths[row]) if isinstance(part.source, FileImages) else f"row {row}"
