"""Embeddings that no network made, written into the database as if one had: pools of any size.

The rows of a class lie around a centre of their own. They are at least 0 and made of a few factors,
like what a network's last layer gives, and next to none are near-duplicates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert

from backend.embedding_rows import to_bytes
from backend.store import Store
from backend.tables import Embedding, ImageSource
from backend.task_rows import source_key

AT_ONCE = 10_000
FACTORS = 64
"""Numbers behind each embedding: those of a network are far from independent, too."""
SPREAD, NOISE = 1.0, 0.05
"""Of the factors of a class, where the centres have a spread of 1; and of each number alone."""


def vectors(
    classes: NDArray[np.int64], width: int, generator: np.random.Generator
) -> NDArray[np.float16]:
    """(n, width) embeddings of n images of these classes."""
    fixed = np.random.default_rng(0)
    centres = fixed.normal(size=(int(classes.max()) + 1, FACTORS)).astype(np.float32)
    mixing = fixed.normal(size=(FACTORS, width)).astype(np.float32) / np.float32(FACTORS**0.5)
    factors = generator.standard_normal((len(classes), FACTORS), dtype=np.float32)
    rows = (centres[classes] + np.float32(SPREAD) * factors) @ mixing
    rows += np.float32(NOISE) * generator.standard_normal(rows.shape, dtype=np.float32)
    return np.maximum(rows, 0).astype(np.float16)


def digest_of(uri: str) -> str:
    """The SHA-256 that stands for the bytes of an image that is nowhere."""
    return hashlib.sha256(f"synthetic:{uri}".encode()).hexdigest()


def write_embeddings(
    store: Store,
    uris: Sequence[str],
    classes: NDArray[np.int64],
    backbone: str,
    width: int,
    generator: np.random.Generator,
) -> None:
    """Images of these classes at these addresses, as fetched and embedded."""
    for places in slices(len(uris)):
        some = [uris[i] for i in places]
        rows = vectors(classes[places], width, generator)
        digests = [digest_of(uri) for uri in some]
        with store.write() as session:
            session.execute(
                insert(ImageSource),
                [
                    {"source": source_key(u), "digest": d, "failure": "", "attempts": 0}
                    for u, d in zip(some, digests, strict=True)
                ],
            )
            session.execute(
                insert(Embedding),
                [
                    {"digest": d, "backbone": backbone, "vector": to_bytes(row)}
                    for d, row in zip(digests, rows, strict=True)
                ],
            )


def slices(count: int, size: int = AT_ONCE) -> Iterator[range]:
    """Ranges of up to ``size`` that make up ``range(count)``."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))
