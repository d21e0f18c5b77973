"""Versions with real files, written the way a training writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.champion import artifact_folder, replace_champion
from backend.settings import Settings
from backend.tables import Embedding, Project, Version
from model.artifact import Artifact, save_artifact
from model.head import Head

if TYPE_CHECKING:
    from tests.backend.conftest import Tables

IDENTITY = "mobilenet_v2-b0353104-224px"
"""What the backbone of the settings calls itself."""


def save_version(
    tables: Tables,
    settings: Settings,
    number: int,
    *,
    kept: bool = True,
    backbone: str = IDENTITY,
    weights: NDArray[Any] | None = None,
    heads: dict[str, Head] | None = None,
) -> None:
    """A version of project 1 that tells cats, dogs and owls; the champion, where it is kept."""
    head = Head(
        ("cat", "dog", "owl"),
        False,
        np.full((16, 3), number, dtype=np.float32) if weights is None else weights,
        np.zeros(3, dtype=np.float32),
        np.ones(1, dtype=np.float32),
    )
    folder = artifact_folder(settings.data_dir, 1, number)
    manifest: dict[str, Any] = {"seed": number, "strategy": "margin"}
    save_artifact(folder, Artifact(number, backbone, heads or {"label": head}, manifest))
    with tables.store.write() as session:
        session.add(
            Version(
                project_id=1,
                number=number,
                created_at=0.0,
                kept=kept,
                reason="Kept: as good." if kept else "Refused: worse.",
                labels=10 * number,
                backbone=backbone,
                metrics={"holdout": {"challenger_accuracy": 0.75, "n": 12}},
            )
        )
        if kept:
            replace_champion(session.get_one(Project, 1), number)


def embed_again(tables: Tables) -> None:
    """The same features under the name of the network that the settings name."""
    with tables.store.write() as session:
        for row in session.query(Embedding).all():
            session.merge(Embedding(digest=row.digest, backbone=IDENTITY, vector=row.vector))


@pytest.fixture
def three(tables: Tables, settings: Settings) -> Tables:
    """Versions v1 and v3 were kept, v2 was refused; v3 serves."""
    for number, kept in ((1, True), (2, False), (3, True)):
        save_version(tables, settings, number, kept=kept)
    return tables
