"""Several processes of one machine that fetch the same version at once, and one that is killed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.champion import artifact_folder
from backend.shared_files import SharedFiles
from backend.shared_versions import FILES, fetch_version, share_version
from model.artifact import load_artifact, save_artifact
from model.errors import ArtifactError
from tests.backend.buckets import Machine
from tests.backend.conftest import Tables
from tests.backend.saved_versions import save_version
from tests.s3_server import S3Server

LONG = 60.0
"""Only a test that fails waits so long."""


@pytest.fixture
def digest(tables: Tables, machine: Machine, shared: SharedFiles) -> str:
    """What names v1 of machine a in the bucket."""
    save_version(tables, machine("a"), 1)
    return share_version(shared, 1, 1, artifact_folder(machine("a").data_dir, 1, 1))


@pytest.fixture
def folder(machine: Machine) -> Path:
    """Where v1 belongs on machine b."""
    return artifact_folder(machine("b").data_dir, 1, 1)


def _fetch(root: str, endpoint: str | None, folder: Path, digest: str) -> None:
    """As another process does it."""
    fetch_version(SharedFiles(root, endpoint), folder, 1, 1, digest)


@pytest.mark.parametrize("damaged", [False, True], ids=["nothing there", "a damaged one there"])
def test_one_fetch_does_not_disturb_another(
    shared: SharedFiles, s3: S3Server, digest: str, folder: Path, damaged: bool
) -> None:
    if damaged:
        fetch_version(shared, folder, 1, 1, digest)
        (folder / FILES[0]).write_bytes(b"cut")
    asked = Counter[str]()
    second_began, first_ended = threading.Event(), threading.Event()
    second: list[Future[None]] = []

    def meet(method: str, path: str) -> None:
        """The second begins before the first has all, and has nothing until the first ended."""
        name = path.rpartition("/")[2]
        asked[name] += 1
        if (name, asked[name]) == (FILES[1], 1):
            second.append(pool.submit(fetch_version, shared, folder, 1, 1, digest))
            assert second_began.wait(LONG)
        if (name, asked[name]) == (FILES[0], 2):
            second_began.set()
            assert first_ended.wait(LONG)

    s3.before = meet
    with ThreadPoolExecutor(2) as pool:
        try:
            pool.submit(fetch_version, shared, folder, 1, 1, digest).result()
            load_artifact(folder)
        finally:
            first_ended.set()
        second[0].result()
    assert load_artifact(folder).version == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", "v1"]


def test_a_fetch_that_is_killed_leaves_no_half_version(
    shared: SharedFiles, s3: S3Server, digest: str, folder: Path
) -> None:
    half, killed = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if path.endswith(FILES[1]):
            half.set()
            killed.wait(LONG)

    s3.before = hold
    process = multiprocessing.get_context("spawn").Process(
        target=_fetch, args=(shared.root, shared.endpoint, folder, digest)
    )
    process.start()
    assert half.wait(LONG)
    assert not folder.exists()
    process.kill()
    process.join()
    killed.set()
    s3.before = lambda method, path: None
    [left] = folder.parent.glob(".*.fetched")
    fetch_version(shared, folder, 1, 1, digest)
    assert load_artifact(folder).version == 1
    assert left.exists()  # it might still be written to
    os.utime(left, (0, 0))
    (folder / FILES[0]).unlink()
    fetch_version(shared, folder, 1, 1, digest)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", "v1"]


def test_what_is_here_stays_while_the_bucket_has_nothing_better(
    shared: SharedFiles, s3: S3Server, digest: str, folder: Path, machine: Machine
) -> None:
    made = load_artifact(artifact_folder(machine("a").data_dir, 1, 1))
    save_artifact(folder, made)
    (folder / FILES[0]).write_bytes(b"cut")
    [key] = [key for key in s3.all_keys() if key.endswith(FILES[1])]
    s3.remove(key)
    with pytest.raises(ArtifactError, match="missing or damaged"):
        fetch_version(shared, folder, 1, 1, digest)
    assert (folder / FILES[0]).read_bytes() == b"cut"
