"""Working copies that were made before there was a bucket."""

from __future__ import annotations

import io
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend import shared_copies
from backend.kept_copies import KeptCopies
from backend.shared_copies import share_copies
from backend.shared_files import SharedFiles
from backend.working_copies import WorkingCopies
from model.errors import StorageError
from tests.s3_server import S3Server

RUNNING = threading.Event()
"""Of a trainer that nobody stops."""


def _picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a machine keeps its copies."""
    return tmp_path / "one"


@pytest.fixture
def old(folder: Path) -> list[str]:
    """Digests of nine copies that a machine made without a bucket, in the order of their names."""
    copies = WorkingCopies(folder, 64)
    return sorted(copies.put(_picture(seed)) for seed in range(9))


def _sent(s3: S3Server) -> list[str]:
    """Digests of the copies that were sent, in order."""
    return [path.rpartition("/")[2] for method, path in s3.asked if method == "PUT"]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_copies_of_before_are_sent_and_those_that_are_there_are_not(
    shared: SharedFiles, s3: S3Server, folder: Path, old: list[str], tmp_path: Path
) -> None:
    other = WorkingCopies(tmp_path / "other", 64, shared=shared)
    there = [other.put(_picture(seed)) for seed in (0, 5)]
    # What is no copy is nobody's.
    (folder / old[0][:2] / "notes.txt").write_bytes(b"x")
    s3.asked.clear()
    assert share_copies(shared, folder, RUNNING) == 7
    assert _sent(s3) == [digest for digest in old if digest not in there]
    # Beside what was sent, one list for each place.
    assert len(s3.asked) == 7 + len({digest[:2] for digest in old})
    mine = WorkingCopies(folder, 64)
    for digest in old:
        assert other.open(digest).tobytes() == mine.open(digest).tobytes()
    s3.asked.clear()
    assert share_copies(shared, folder, RUNNING) == 0
    assert _sent(s3) == []


def test_sending_goes_on_where_it_was_cut_off(
    shared: SharedFiles, s3: S3Server, folder: Path, old: list[str]
) -> None:
    def cut(method: str, path: str) -> None:
        if len(_sent(s3)) == 4:
            s3.refusal = "AccessDenied"

    s3.before = cut
    with pytest.raises(StorageError):
        share_copies(shared, folder, RUNNING)
    s3.refusal, s3.before = "", lambda method, path: None
    s3.asked.clear()
    stop = threading.Event()
    s3.before = lambda method, path: stop.set() if method == "PUT" else None
    assert share_copies(shared, folder, stop) == 1
    assert share_copies(shared, folder, RUNNING) == 5
    assert _sent(s3) == old[3:]


def test_the_log_says_how_far_it_is(
    shared: SharedFiles,
    folder: Path,
    old: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_copies, "PROGRESS", 4)
    with caplog.at_level(logging.INFO, "backend.shared_copies"):
        share_copies(shared, folder, RUNNING)
    own = [each for each in caplog.records if each.name == "backend.shared_copies"]
    assert [record.getMessage() for record in own] == [
        f"4 working copies sent to {shared.root}; now at place {old[3][:2]} of 00 to ff",
        f"8 working copies sent to {shared.root}; now at place {old[7][:2]} of 00 to ff",
        f"all 9 working copies that were only here are in {shared.root}",
    ]


def test_nothing_makes_room_that_the_bucket_does_not_have(
    shared: SharedFiles,
    s3: S3Server,
    folder: Path,
    old: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = _bytes(folder) // 2
    copies = WorkingCopies(folder, 64, shared=shared, max_bytes=limit)
    new = [copies.put(_picture(seed)) for seed in range(100, 106)]
    assert all(copies.path(digest).exists() for digest in old)
    assert not all(copies.path(digest).exists() for digest in new)
    assert "a trainer with this data folder sends them" in caplog.text
    assert share_copies(shared, folder, RUNNING) == len(old)
    last = copies.put(_picture(200))
    assert _bytes(folder) - copies.path(last).stat().st_size <= limit
    s3.asked.clear()
    assert all(map(copies.has, [*old, *new]))
    assert any(method == "GET" for method, _ in s3.asked)


def test_nothing_makes_room_while_the_bucket_is_away(
    shared: SharedFiles, s3: S3Server, folder: Path, old: list[str]
) -> None:
    share_copies(shared, folder, RUNNING)
    before = _bytes(folder)
    kept = KeptCopies(folder, before // 2, shared)
    s3.refusal = "AccessDenied"
    kept.make_room(before)
    assert _bytes(folder) == before
    s3.refusal = ""
    kept.make_room(before)
    assert _bytes(folder) <= before // 2
