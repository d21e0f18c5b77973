"""A version's files cut at every kilobyte: always detected, and the one before serves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from backend.champion import Champions, artifact_folder, load_whole
from backend.settings import Settings
from backend.tables import Project
from backend.tuned_networks import TunedNetwork, network_path, tuned_folder
from model.artifact import DESCRIPTION_FILE, TENSORS_FILE, Artifact, save_artifact
from model.errors import ArtifactError
from model.head import Head
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.saved_versions import save_version

KILOBYTE = 1024
CLASSES = tuple(f"class {n}" for n in range(10))


def lengths(size: int) -> list[int]:
    """Every whole number of kilobytes below the size, one byte less and one more."""
    around = {cut + off for cut in range(0, size, KILOBYTE) for off in (-1, 0, 1)}
    return sorted(cut for cut in {*around, size - 1} if 0 <= cut < size)


def write_second(tables: Tables, settings: Settings) -> list[Path]:
    """A second version as large as real ones are, of a fine-tuned network; its files."""
    random = np.random.default_rng(0)
    head = Head(
        CLASSES,
        False,
        random.normal(size=(1280, 10)).astype(np.float32),
        np.zeros(10, dtype=np.float32),
        np.ones(1, dtype=np.float32),
    )
    network = random.bytes(30_000)
    record = TunedNetwork(
        identity="tuned",
        name="mobilenet_v2",
        input_size=224,
        sha256=hashlib.sha256(network).hexdigest(),
        base=BACKBONE,
        trained=frozenset(hashlib.sha256(bytes([n])).hexdigest() for n in range(100)),
    )
    folder = tuned_folder(settings.data_dir)
    folder.mkdir()
    network_path(folder, "tuned").write_bytes(network)
    (folder / "tuned.json").write_text(record.model_dump_json())
    manifest = {"tuned": record.manifest(), "trained_on": {"label": list(range(2000))}}
    save_version(tables, settings, 2, backbone="tuned")
    second = artifact_folder(settings.data_dir, 1, 2)
    for path in second.iterdir():
        path.unlink()
    second.rmdir()
    save_artifact(second, Artifact(2, "tuned", {"label": head}, manifest))
    files = [second / TENSORS_FILE, second / DESCRIPTION_FILE]
    return [*files, network_path(folder, "tuned"), folder / "tuned.json"]


@pytest.mark.parametrize("which", range(4), ids=["heads", "model.json", "network", "record"])
def test_a_version_cut_at_every_kilobyte_is_detected(
    tables: Tables, settings: Settings, which: int
) -> None:
    save_version(tables, settings, 1, backbone=BACKBONE)
    path = write_second(tables, settings)[which]
    whole = path.read_bytes()
    with tables.store.read() as session:
        assert session.get_one(Project, 1).champion == 2
    cuts = lengths(len(whole))
    assert len(cuts) >= 3 * (len(whole) // KILOBYTE)
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(ArtifactError):
            load_whole(settings.data_dir, 1, 2)
        served = Champions(tables.store, settings.data_dir).get(1)
        assert served is not None
        assert served.version == 1, cut
    path.write_bytes(whole)
    served = Champions(tables.store, settings.data_dir).get(1)
    assert served is not None
    assert served.version == 2
