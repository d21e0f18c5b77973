"""A real disk that is full: what is said, what serves meanwhile, and that all goes on later."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from backend.champion import Champions, artifact_folder
from backend.hints import add_hint
from backend.lease import Leases
from backend.secrets import webhook_secret
from backend.settings import Settings
from backend.store import Store
from backend.tables import Hint
from backend.training import train
from backend.working_copies import WorkingCopies
from model.errors import StorageError
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.served_app import client_of

SIZE = 12_000_000


@pytest.fixture
def database() -> None:
    """SQLite, whose disk can be filled."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of twelve megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """No byte is free within the block."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


@pytest.fixture
def on_disk(small_disk: Path, settings: Settings) -> Iterator[tuple[Tables, Settings]]:
    """A project on the small disk, whose first version serves, with new labels."""
    small = settings.model_copy(update={"data_dir": small_disk / "data"})
    store = Store(small.database_address)
    store.migrate()
    tables = Tables(store)
    classes = tables.clusters(60)
    for task in range(1, 31):
        tables.label(task, classes[task - 1])
    leases = Leases(store, "test", 1e9)
    assert leases.acquire(1)
    assert learn(tables, small).kept
    for task in range(31, 41):
        tables.label(task, classes[task - 1])
    yield tables, small
    store.close()


def learn(tables: Tables, settings: Settings):  # type: ignore[no-untyped-def]
    champion = Champions(tables.store, settings.data_dir).get(1)
    return train(tables.store, Leases(tables.store, "test", 1e9), settings, 1, BACKBONE, champion)


def test_a_training_on_a_full_disk_and_with_space_again(
    on_disk: tuple[Tables, Settings], small_disk: Path
) -> None:
    tables, settings = on_disk
    with filled(small_disk):
        with pytest.raises(StorageError) as caught:
            learn(tables, settings)
        said = str(caught.value)
        assert str(artifact_folder(settings.data_dir, 1, 2).parent) in said
        found = re.search(r"No space left on device; ([\d,]+) bytes are needed and ([\d,]+)", said)
        assert found, said
        needed, free = (int(number.replace(",", "")) for number in found.groups())
        assert 1000 < needed < 50_000
        assert free < needed
        assert said.endswith("Free some space there.")
        # The first version serves, and nothing half-written takes up room.
        served = Champions(tables.store, settings.data_dir).get(1)
        assert served is not None
        assert served.version == 1
        assert {p.name for p in (settings.data_dir / "artifacts/project-1").iterdir()} == {"v1"}
    assert learn(tables, settings).version == 2


def test_the_server_answers_from_what_it_has(
    on_disk: tuple[Tables, Settings], small_disk: Path
) -> None:
    tables, settings = on_disk
    with client_of(settings) as client:
        tasks = [{"id": n, "data": {"image": f"/data/{n}.png"}} for n in range(41, 51)]
        body = {"tasks": tasks, "project": "1.1"}
        before = client.post("/predict", json=body).get_json()
        assert {entry["model_version"].partition(".")[0] for entry in before["results"]} == {"v1"}
        with filled(small_disk):
            exhaust(tables.store)
            answer = client.post("/predict", json=body)
            assert answer.status_code == 200
            choices = [
                entry["result"] and entry["result"][0]["value"] for entry in before["results"]
            ]
            assert [
                entry["result"] and entry["result"][0]["value"]
                for entry in answer.get_json()["results"]
            ] == choices
            refused = client.post("/train", json={"project": 1})
            assert refused.status_code == 503
            assert "has no space left" in refused.get_json()["message"]
            assert str(settings.data_dir / "tiebreak.db") in refused.get_json()["message"]
            assert "Free some space there" in refused.get_json()["mend"]
        assert client.post("/train", json={"project": 1}).status_code == 200
        assert learn(tables, settings).version == 2


def exhaust(store: Store) -> None:
    """Write into the database until it has no room left in its own files either."""
    said = ""
    for size in (200_000, 20_000, 2_000, 50):
        try:
            while True:
                with store.write() as session:
                    session.add(Hint(project_id=1, action="x" * size, created_at=0.0))
        except StorageError as error:
            said = str(error)
    assert re.search(r"tiebreak\.db has no space left \(.*disk is full", said)


def test_hints_pictures_and_secrets_say_what_is_missing(
    on_disk: tuple[Tables, Settings], small_disk: Path
) -> None:
    tables, settings = on_disk
    picture = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    data = encoded(picture)
    copies = WorkingCopies(settings.working_copies, 288)
    with filled(small_disk):
        exhaust(tables.store)
        with pytest.raises(StorageError, match="has no space left"):
            add_hint(tables.store, 1, "TEST", None, train=False)
        with pytest.raises(StorageError, match=r"working copy cannot be written .*bytes are need"):
            copies.put(data)
    assert copies.has(copies.put(data))
    assert add_hint(tables.store, 1, "TEST", None, train=False)
    assert webhook_secret(settings)


def encoded(pixels: object) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")  # type: ignore[arg-type]
    return buffer.getvalue()
