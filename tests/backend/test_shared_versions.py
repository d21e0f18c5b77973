"""Versions of several machines in one bucket: whole or not at all, checked, and cached."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from backend import champion as champion_module
from backend import shared_versions
from backend.champion import Champions, artifact_folder, load_whole
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.prune import prune
from backend.shared_files import SharedFiles
from backend.sharing import share_versions
from backend.store import Store
from backend.tables import Project, Version
from backend.training import train
from backend.tuned_networks import (
    TunedNetwork,
    fetch_network,
    find_tuned,
    forget_unneeded,
    keep_network,
    network_path,
    share_tuned,
    tuned_folder,
)
from backend.version_files import laid_down
from backend.versions import show_version
from model.artifact import Artifact
from model.errors import ArtifactError, StorageError
from tests.backend.buckets import Machine
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.saved_versions import save_version
from tests.s3_server import S3Server


def _weights(artifact: Artifact | None) -> list[list[float]]:
    assert artifact is not None
    return artifact.heads["label"].weights.tolist()


def _files(store: Store, number: int) -> str:
    with store.read() as session:
        return session.get_one(Version, (1, number)).files


def _objects(s3: S3Server, number: int) -> list[str]:
    """Keys of a version's two objects: its description and its tensors."""
    folder = f"team/artifacts/project-1/v{number}-"
    found = [key for key in s3.all_keys() if key.startswith(folder)]
    return sorted(found, key=lambda key: not key.endswith("model.json"))


@pytest.fixture
def two(tables: Tables, machine: Machine, shared: SharedFiles) -> Tables:
    """Versions v1 and v2 that machine a made before there was a bucket, and sent then."""
    for number in (1, 2):
        save_version(tables, machine("a"), number)
    sent = share_versions(shared, tables.store, machine("a"))
    assert sent == ["v1 of project 1", "v2 of project 1"]
    assert share_versions(shared, tables.store, machine("a")) == []
    return tables


def test_what_one_machine_learns_another_serves(
    tables: Tables, machine: Machine, shared: SharedFiles, s3: S3Server
) -> None:
    for number, name in enumerate(tables.clusters(12), 1):
        tables.label(number, name)
    leases = Leases(tables.store, "a", 30)
    assert leases.acquire(1)
    assert train(tables.store, leases, machine("a"), 1, BACKBONE, None).version == 1
    made = load_whole(machine("a").data_dir, 1, 1)

    champions = Champions(tables.store, machine("b").data_dir, shared)
    assert _weights(champions.get(1)) == _weights(made)
    description = s3.read(_objects(s3, 1)[0])
    assert _files(tables.store, 1) == hashlib.sha256(description).hexdigest()
    # From then on nobody asks the bucket: not this process, not the next one.
    s3.asked.clear()
    s3.refusal = "AccessDenied"
    assert _weights(champions.get(1)) == _weights(made)
    again = Champions(tables.store, machine("b").data_dir, shared)
    assert _weights(again.get(1)) == _weights(made)
    assert s3.asked == []


def test_a_training_that_came_to_nothing_leaves_nothing(
    tables: Tables, machine: Machine, shared: SharedFiles, s3: S3Server
) -> None:
    save_version(tables, machine("a"), 1)
    artifact = load_whole(machine("a").data_dir, 1, 1)
    shutil.rmtree(artifact_folder(machine("a").data_dir, 1, 1))
    with laid_down(machine("a").data_dir, 1, artifact, shared) as laid:
        assert len(_objects(s3, 1)) == 2
        assert laid.files == hashlib.sha256(s3.read(_objects(s3, 1)[0])).hexdigest()
    assert s3.all_keys() == []
    # One that may have been committed is left alone.
    with laid_down(machine("a").data_dir, 1, artifact, shared) as laid:
        laid.put_in_place()
    assert len(_objects(s3, 1)) == 2


@pytest.mark.parametrize("which", [0, 1], ids=["description", "tensors"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_damaged_version_does_not_serve_and_the_one_before_does(
    two: Tables, machine: Machine, shared: SharedFiles, s3: S3Server, which: int, how: str
) -> None:
    key = _objects(s3, 2)[which]
    whole = s3.read(key)
    if how == "gone":
        s3.remove(key)
    else:
        s3.write(key, whole[:-9] if how == "cut" else whole[:-9] + b"!" + whole[-8:])
    settings = machine("b")
    with pytest.raises(ArtifactError, match="missing or damaged"):
        load_whole(settings.data_dir, 1, 2, shared, _files(two.store, 2))
    served = Champions(two.store, settings.data_dir, shared).get(1)
    assert served is not None
    assert served.version == 1
    assert "damaged" in show_version(two.store, settings, 1, 2)["problem"]
    s3.write(key, whole)
    served = Champions(two.store, settings.data_dir, shared).get(1)
    assert served is not None
    assert served.version == 2


def test_a_copy_that_is_damaged_here_is_fetched_anew(
    two: Tables, machine: Machine, shared: SharedFiles
) -> None:
    data_dir = machine("b").data_dir
    whole = load_whole(data_dir, 1, 2, shared, _files(two.store, 2))
    path = artifact_folder(data_dir, 1, 2) / "heads.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert _weights(load_whole(data_dir, 1, 2, shared, _files(two.store, 2))) == _weights(whole)


def test_what_a_cut_off_training_left_here_is_not_taken_for_the_version(
    two: Tables, machine: Machine, shared: SharedFiles
) -> None:
    # The folder of machine b holds another v2, whose row it could not write.
    data_dir = machine("b").data_dir
    right = load_whole(machine("a").data_dir, 1, 2)
    other = Artifact(2, right.backbone, load_whole(machine("a").data_dir, 1, 1).heads, {})
    with laid_down(data_dir, 1, other) as laid:
        laid.put_in_place()
    assert _weights(load_whole(data_dir, 1, 2, shared, _files(two.store, 2))) == _weights(right)


def test_while_the_bucket_is_away_what_is_here_serves(
    two: Tables,
    machine: Machine,
    shared: SharedFiles,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data_dir, store = machine("b").data_dir, two.store
    with store.write() as session:
        session.get_one(Project, 1).champion = 1
    champions = Champions(store, data_dir, shared)
    first = champions.get(1)
    with store.write() as session:
        session.get_one(Project, 1).champion = 2
    s3.refusal = "AccessDenied"
    assert champions.get(1) is first
    asked = len(s3.asked)
    assert asked > 0
    assert champions.get(1) is first
    assert len(s3.asked) == asked  # not asked again at once
    # A trainer waits instead: a version that it cannot have is not lost, and not learned anew.
    with pytest.raises(StorageError):
        Champions(store, data_dir, shared, patient=True).get(1)
    s3.refusal = ""
    monkeypatch.setattr(champion_module, "SHARED_SECONDS", 1e-9)
    second = champions.get(1)
    assert second is not None
    assert second.version == 2


def test_pruning_takes_a_version_from_the_bucket_too(
    two: Tables,
    machine: Machine,
    shared: SharedFiles,
    s3: S3Server,
    keeper_client: LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = machine("a").model_copy(update={"keep_versions": 1})
    with two.store.write() as session:
        session.get_one(Project, 1).history = []
    s3.write("team/artifacts/project-1/v3-0123456789abcdef/model.json", b"of a training under way")
    s3.write("team/artifacts/project-2/v1-0123456789abcdef/model.json", b"of another project")
    before = s3.all_keys()
    assert prune(two.store, keeper_client, settings, 1).removed == ["v1"]
    assert s3.all_keys() == [key for key in before if "/v1-" not in key or "project-2" in key]
    monkeypatch.setattr(shared_versions, "ABANDONED_SECONDS", -60.0)
    prune(two.store, keeper_client, settings, 1)
    assert s3.all_keys() == [*_objects(s3, 2)[1:], _objects(s3, 2)[0], *s3.all_keys()[2:]]
    assert len(s3.all_keys()) == 3


def _network(folder: Path, data: bytes) -> TunedNetwork:
    folder.mkdir(parents=True)
    (folder / "tuned.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    identity = f"resnet18-{digest[:8]}-32px"
    return TunedNetwork(
        identity=identity,
        name="resnet18",
        input_size=32,
        sha256=digest,
        base=BACKBONE,
        trained=frozenset({"0" * 64}),
    )


def test_a_fine_tuned_network_is_there_once_its_record_is(
    store: Store, machine: Machine, shared: SharedFiles, s3: S3Server, tmp_path: Path
) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    record = _network(tmp_path / "made", data)
    keep_network(machine("a"), tmp_path / "made" / "tuned.safetensors", record)
    share_tuned(shared, tuned_folder(machine("a").data_dir), record.identity)
    network, described = (
        f"team/backbones/{record.identity}.{end}" for end in ("safetensors", "json")
    )
    puts = [path for method, path in s3.asked if method == "PUT"]
    assert [path.rpartition(".")[2] for path in puts] == ["safetensors", "json"]

    there = tuned_folder(machine("b").data_dir)
    kept = s3.read(described)
    s3.remove(described)
    fetch_network(shared, there, record.identity)
    assert find_tuned(there, record.identity) is None
    s3.write(described, kept)
    fetch_network(shared, there, record.identity)
    assert find_tuned(there, record.identity) == record
    assert network_path(there, record.identity).read_bytes() == data
    s3.asked.clear()
    fetch_network(shared, there, record.identity)
    assert s3.asked == []
    # One that is cut here is fetched anew; when no version names it, it goes everywhere.
    network_path(there, record.identity).write_bytes(data[:-1])
    fetch_network(shared, there, record.identity)
    assert network_path(there, record.identity).read_bytes() == data
    assert network in s3.all_keys()
    assert forget_unneeded(store, machine("b"), shared) == [record.identity]
    assert s3.all_keys() == []
    assert not list(there.iterdir())
