"""Labelled images, unchanged or changed, become embeddings."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.augment import Augmentation, draw_chances
from model.embed import Embedder, square_pixels

READERS = 4

Tell = Callable[[str, int, int], None]
"""Gets what is being done, and how much of how much is."""


class Images(Protocol):
    """n images with one class each."""

    @property
    def targets(self) -> NDArray[np.int64]:
        """(n,) positions in the classes."""

    def load(self, position: int) -> Image.Image:
        """Image ``position``, 0 to n - 1; called from several threads and processes."""

    def __len__(self) -> int: ...


def embed_images(
    embedder: Embedder,
    images: Images,
    what: str,
    tell: Tell,
    change: Callable[[int, Image.Image], Image.Image] | None = None,
) -> NDArray[np.float16]:
    """(n, width) embeddings in the order of ``images``, as many in memory as make a batch.

    ``change`` gets the position of an image and the image, and says what is embedded instead; it
    is called in the order of the images, from one thread. ``tell`` hears of every batch, as
    ``what``.
    """
    found = np.empty((len(images), embedder.width), dtype=np.float16)
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(images), embedder.batch_size):
            rows = range(start, min(start + embedder.batch_size, len(images)))
            batch = list(readers.map(images.load, rows))
            if change is not None:
                batch = [change(row, image) for row, image in zip(rows, batch, strict=True)]
            found[rows.start : rows.stop] = embedder.embed(batch)
            tell(what, rows.stop, len(images))
    return found


def embed_with_mirrors(
    embedder: Embedder, images: Images, mirrored: NDArray[np.bool_], what: str, tell: Tell
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """:func:`embed_images`, and of the m images that the (n,) flags name also (m, width) with left
    and right exchanged. Each image is loaded once."""
    own = np.empty((len(images), embedder.width), dtype=np.float16)
    flipped = np.empty_like(own)
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(images), embedder.batch_size):
            rows = np.arange(start, min(start + embedder.batch_size, len(images)))
            batch = dict(zip(rows.tolist(), readers.map(images.load, rows.tolist()), strict=True))
            both, one = rows[mirrored[rows]], rows[~mirrored[rows]]
            own[both], flipped[both] = embedder.embed_both_ways([batch[row] for row in both])
            own[one] = embedder.embed([batch[row] for row in one])
            tell(what, int(rows[-1]) + 1, len(images))
    return own, flipped[mirrored]


def changed_copy(
    image: Image.Image, side: int, change: Augmentation, seed: tuple[int, ...]
) -> Image.Image:
    """A changed copy of an image, as a network with inputs of ``side`` pixels sees it.

    Equal seeds give equal copies.
    """
    picture = torch.from_numpy(square_pixels(image, side, 0).copy()).permute(2, 0, 1)
    changed = change.changed(picture.unsqueeze(0), draw_chances(1, seed))[0]
    return Image.fromarray(changed.permute(1, 2, 0).contiguous().numpy())
