"""What the unlabelled images of a project say, made anew only when there are other images."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from backend.batches import SQL_SLICE
from backend.embedding_rows import from_bytes
from backend.tables import Embedding, ImageSource, TaskImage
from model.head import power_normalise
from model.pool_prior import MOST_IMAGES, PoolPrior

MOST_KEPT = 4
FEWEST = 50

_Key = tuple[int, str, str]


class PoolPriors:
    """The priors of the projects that were trained last, in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[str, PoolPrior]] = OrderedDict()

    def get(
        self, session: Session, project_id: int, data_key: str, backbone: str
    ) -> PoolPrior | None:
        """The prior of the images under one data key, by the network ``backbone``.

        Of more than 10,000 images those with the smallest digests stand for all: a fixed draw by
        chance. None below 50 images.
        """
        digests = list(session.scalars(_digests(project_id, data_key, backbone)))
        if len(digests) < FEWEST:
            return None
        key = (project_id, data_key, backbone)
        stamp = hashlib.sha256("".join(digests).encode()).hexdigest()
        with self._lock:
            known = self._kept.get(key)
            if known is not None and known[0] == stamp:
                self._kept.move_to_end(key)
                return known[1]
            prior = PoolPrior(power_normalise(_vectors(session, digests, backbone)))
            self._kept[key] = (stamp, prior)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return prior


def pool_embeddings(
    session: Session, project_id: int, data_key: str, backbone: str
) -> NDArray[np.float16] | None:
    """(n, d) embeddings of the images that a prior is made of; None for too few."""
    digests = list(session.scalars(_digests(project_id, data_key, backbone)))
    return _vectors(session, digests, backbone) if len(digests) >= FEWEST else None


def _digests(project_id: int, data_key: str, backbone: str) -> Select[str]:
    return (
        select(Embedding.digest)
        .join(ImageSource, ImageSource.digest == Embedding.digest)
        .join(TaskImage, TaskImage.source == ImageSource.source)
        .where(
            TaskImage.project_id == project_id,
            TaskImage.data_key == data_key,
            Embedding.backbone == backbone,
        )
        .distinct()
        .order_by(Embedding.digest)
        .limit(MOST_IMAGES)
    )


def _vectors(session: Session, digests: Sequence[str], backbone: str) -> NDArray[np.float16]:
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), SQL_SLICE):
        rows = session.execute(
            select(Embedding.digest, Embedding.vector).where(
                Embedding.backbone == backbone,
                Embedding.digest.in_(digests[start : start + SQL_SLICE]),
            )
        )
        found.update((digest, vector) for digest, vector in rows)
    return from_bytes([found[digest] for digest in digests])
