"""A project that has learned stripes from real pictures, by a small network with seeded weights."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.champion import Champions
from backend.embedding_rows import to_bytes
from backend.engine import LocalEngine
from backend.explainer import Explainer
from backend.settings import Settings
from backend.store import Store
from backend.tables import Embedding, ImageGroup, ImageSource, Task, TaskImage
from backend.task_rows import source_key
from backend.working_copies import working_copies
from model.head import Head, fit_head
from tests.backend.conftest import Tables
from tests.backend.saved_versions import save_version
from tests.backend.served_app import settings_in

SIDE = 64
CLASSES = ("cat", "dog", "owl")
LABELLED = 12


def stripes(kind: int, seed: int) -> Image.Image:
    """A picture of one of three kinds: lying stripes, upright ones, none."""
    generator = np.random.default_rng([kind, seed])
    rows, columns = np.indices((SIDE, SIDE)) // 8
    wave = (rows, columns, np.zeros_like(rows))[kind] % 2 * 180
    noisy = wave[..., None] + generator.integers(0, 60, (SIDE, SIDE, 3))
    return Image.fromarray(noisy.astype(np.uint8))


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


class ExplainedProject:
    """Project 1: tasks 1 to 12 are labelled cat, dog, owl in turns, and ``head`` has learned them.

    Task 13 and later ones wait.
    """

    def __init__(self, settings: Settings, waiting: int = 3) -> None:
        self.settings = settings
        self.store = Store(settings.database_address)
        self.store.migrate()
        self.tables = Tables(self.store)
        self.engine = LocalEngine(settings)
        self.backbone = self.engine.backbone
        self.pictures = {n: stripes(n % 3, n) for n in range(1, LABELLED + waiting + 1)}
        self.digests = {n: self._add(n) for n in self.pictures}
        labelled = range(1, LABELLED + 1)
        for n in labelled:
            self.tables.label(n, CLASSES[n % 3])
        self.embeddings = self.engine.embed([self.pictures[n] for n in labelled], self.backbone)
        fitted = fit_head(
            self.embeddings, [n % 3 for n in labelled], classes=CLASSES, multiple=False, seed=0
        )
        self.head: Head = fitted.head
        save_version(self.tables, settings, 1, backbone=self.backbone, heads={"label": fitted.head})

    def explainer(self) -> Explainer:
        """What explains its champion."""
        champions = Champions(self.store, self.settings.data_dir)
        return Explainer(self.settings, self.store, champions, self.engine)

    def _add(self, task_id: int) -> str:
        data = png(self.pictures[task_id])
        digest = hashlib.sha256(data).hexdigest()
        assert working_copies(self.settings).put(data) == digest
        uri = f"/data/{task_id}.png"
        vector = self.engine.embed([self.pictures[task_id]], self.backbone)[0]
        with self.store.write() as session:
            session.add(Task(project_id=1, id=task_id))
            session.add(
                TaskImage(
                    project_id=1,
                    task_id=task_id,
                    data_key="image",
                    uri=uri,
                    source=source_key(uri),
                )
            )
            session.add(ImageSource(source=source_key(uri), digest=digest))
            session.add(Embedding(digest=digest, backbone=self.backbone, vector=to_bytes(vector)))
            session.add(ImageGroup(project_id=1, digest=digest, leader=digest))
        return digest


@pytest.fixture
def explained(
    tmp_path: Path, database: str | None, seeded_weights: Path
) -> Iterator[ExplainedProject]:
    """A project that can explain itself."""
    settings = settings_in(
        tmp_path,
        database_url=database,
        backbone="mobilenet_v3_small",
        input_size=SIDE,
        weights_dir=seeded_weights,
    )
    made = ExplainedProject(settings)
    yield made
    made.store.close()
