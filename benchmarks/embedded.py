"""Images of a data set with their embeddings, which are kept in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.labelled_data import ImageSet
from benchmarks.report import say
from model.embed import Embedder
from model.embed_images import embed_images

Change = Callable[[int, Image.Image], Image.Image]


def embedded(
    embedder: Embedder, images: ImageSet, name: str, cache: Path, change: Change | None = None
) -> NDArray[Any]:
    """(n, width) float16, read from the folder ``cache`` or put there.

    ``name`` must differ where the images do, or what ``change`` makes of them.
    """
    file = cache / f"{name}-{embedder.identity}-{len(images)}.npy"
    if not file.exists():
        say(f"embedding {len(images)} images: {name}")
        found = embed_images(embedder, images, name, lambda *_: None, change=change)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, found)
    return np.asarray(np.load(file))
