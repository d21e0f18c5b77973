"""Embeddings as rows of the database: little-endian float16, one for each image and network."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.batches import SQL_SLICE, batched_lists
from backend.engine import LocalEngine
from backend.metrics import count_embedded
from backend.store import Store, insert_new
from backend.tables import Embedding


def embedded_digests(store: Store, digests: Collection[str], backbone: str) -> set[str]:
    """Which of some images have an embedding: bytes that were seen at another address."""
    found: set[str] = set()
    with store.read() as session:
        for some in batched_lists(list(digests), SQL_SLICE):
            here = Embedding.backbone == backbone, Embedding.digest.in_(some)
            found.update(session.scalars(select(Embedding.digest).where(*here)))
    return found


def add_embeddings(session: Session, vectors: Mapping[str, NDArray[Any]], backbone: str) -> None:
    """Add embeddings by digest; one that is there stays."""
    rows = [
        {"digest": digest, "backbone": backbone, "vector": to_bytes(vector)}
        for digest, vector in sorted(vectors.items(), key=itemgetter(0))
    ]
    insert_new(session, Embedding, rows)


def keep_embeddings(store: Store, vectors: Mapping[str, NDArray[Any]], backbone: str) -> None:
    """The same in a transaction of its own."""
    with store.write(alone=False) as session:
        add_embeddings(session, vectors, backbone)


def embed_images(
    store: Store, engine: LocalEngine, images: dict[str, Image], backbone: str
) -> None:
    """Embed images by digest and keep the embeddings."""
    if not images:
        return
    began = time.perf_counter()
    vectors = engine.embed(list(images.values()), backbone)
    count_embedded(len(images), time.perf_counter() - began)
    keep_embeddings(store, dict(zip(images, vectors, strict=True)), backbone)


def to_bytes(vector: NDArray[Any]) -> bytes:
    """A vector as little-endian float16."""
    return vector.astype("<f2").tobytes()


def from_bytes(vectors: Sequence[bytes]) -> NDArray[Any]:
    """Vectors kept by :func:`to_bytes` as (n, width) float16; (0, 0) for none."""
    if not vectors:
        return np.zeros((0, 0), dtype=np.float16)
    flat = np.frombuffer(b"".join(vectors), dtype="<f2")
    return flat.reshape(len(vectors), -1).astype(np.float16, copy=False)
