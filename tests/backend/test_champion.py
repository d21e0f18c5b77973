from __future__ import annotations

import numpy as np
import pytest

from backend.champion import Champions, artifact_folder
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from model.artifact import Artifact, save_artifact
from model.head import Head
from tests.backend.conftest import Tables


def _version(tables: Tables, settings: Settings, number: int, *, kept: bool = True) -> None:
    head = Head(
        ("cat", "dog"),
        False,
        np.full((4, 2), number, dtype=np.float32),
        np.zeros(2, dtype=np.float32),
        np.ones(1, dtype=np.float32),
    )
    folder = artifact_folder(settings.data_dir, 1, number)
    save_artifact(folder, Artifact(number, "b", {"label": head}, {}))
    with tables.store.write() as session:
        session.add(
            Version(
                project_id=1,
                number=number,
                created_at=0.0,
                kept=kept,
                reason="",
                labels=2,
                backbone="b",
                metrics={},
            )
        )
        if kept:
            session.get_one(Project, 1).champion = number


def test_nothing_serves_before_anything_is_learned(tables: Tables, settings: Settings) -> None:
    assert Champions(tables.store, settings.data_dir).get(1) is None
    assert Champions(tables.store, settings.data_dir).get(99) is None


def test_a_promotion_is_seen_at_once(tables: Tables, settings: Settings) -> None:
    champions = Champions(tables.store, settings.data_dir)
    for number in (1, 2):
        _version(tables, settings, number)
        found = champions.get(1)
        assert found is not None
        assert found.version == number
        assert champions.get(1) is found


@pytest.mark.parametrize("restarted", [True, False])
def test_the_last_good_version_serves_when_the_champion_is_damaged(
    tables: Tables, store: Store, settings: Settings, restarted: bool
) -> None:
    for number, kept in ((1, True), (2, False), (3, True)):
        _version(tables, settings, number, kept=kept)
    champions = Champions(store, settings.data_dir)
    _version(tables, settings, 4)
    path = artifact_folder(settings.data_dir, 1, 4) / "heads.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    if restarted:
        champions = Champions(store, settings.data_dir)
    found = champions.get(1)
    assert found is not None
    assert found.version == 3
