"""Working copies of several machines in one bucket, and which of them a folder keeps."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from backend.errors import ImageError, NotEnoughMemory
from backend.kept_copies import USED_SECONDS, KeptCopies
from backend.shared_files import SharedFiles
from backend.working_copies import WorkingCopies
from model.errors import StorageError
from tests.s3_server import S3Server


def _picture(side: int, seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("side", [20, 100], ids=["png", "jpeg"])
def test_a_copy_of_one_machine_is_opened_on_another(
    shared: SharedFiles, s3: S3Server, tmp_path: Path, side: int
) -> None:
    one = WorkingCopies(tmp_path / "one", 64, shared=shared)
    other = WorkingCopies(tmp_path / "other", 64, shared=shared)
    digest = one.put(_picture(side, 1))
    assert s3.all_keys() == [f"team/images/{digest[:2]}/{digest}"]
    assert other.has(digest)
    assert other.open(digest).tobytes() == one.open(digest).tobytes()
    assert other.path(digest).suffix == one.path(digest).suffix
    assert not other.has("0" * 64)
    # What is here is not asked for.
    s3.refusal = "AccessDenied"
    assert other.open(digest).size == one.open(digest).size
    assert other.put(_picture(side, 1)) == digest


def test_a_damaged_copy_is_removed_everywhere(
    shared: SharedFiles, s3: S3Server, tmp_path: Path
) -> None:
    one = WorkingCopies(tmp_path / "one", 64, shared=shared)
    digest = one.put(_picture(20, 1))
    other = WorkingCopies(tmp_path / "other", 64, shared=shared)
    [key] = s3.all_keys()
    s3.write(key, s3.read(key)[:30])
    with pytest.raises(ImageError, match="damaged"):
        other.open(digest)
    assert s3.all_keys() == []
    assert not other.has(digest)
    assert other.put(_picture(20, 1)) == digest
    assert s3.all_keys() == [key]


def test_a_damaged_copy_is_replaced_by_the_one_in_the_bucket(
    shared: SharedFiles, s3: S3Server, tmp_path: Path
) -> None:
    copies = WorkingCopies(tmp_path, 64, shared=shared)
    digest = copies.put(_picture(20, 1))
    path = copies.path(digest)
    whole = path.read_bytes()
    path.write_bytes(whole[:30])
    assert copies.open(digest).size == (20, 20)
    assert path.read_bytes() == whole
    assert len(s3.all_keys()) == 1


def test_a_copy_is_kept_when_there_is_no_memory_to_open_it(
    shared: SharedFiles, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = WorkingCopies(tmp_path, 64, shared=shared)
    digest = copies.put(_picture(20, 1))

    def no_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(ImageFile.ImageFile, "load", no_memory)
        with pytest.raises(NotEnoughMemory) as caught:
            copies.open(digest)
    assert caught.value.retry
    assert copies.open(digest).size == (20, 20)
    assert len(s3.all_keys()) == 1


def test_an_image_is_not_broken_because_the_bucket_is_away(
    shared: SharedFiles, s3: S3Server, tmp_path: Path
) -> None:
    copies = WorkingCopies(tmp_path, 64, shared=shared)
    s3.refusal = "AccessDenied"
    with pytest.raises(StorageError):
        copies.open("0" * 64)
    with pytest.raises(StorageError):
        copies.put(_picture(20, 1))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_not_used_for_longest_makes_room(
    shared: SharedFiles, s3: S3Server, tmp_path: Path
) -> None:
    digests = [f"{n:064x}"[::-1] for n in range(0x10, 0x1A)]
    places = [tmp_path / digest[:2] / f"{digest}.jpg" for digest in digests]
    for age, place in enumerate(places):
        s3.write(f"team/images/{place.parent.name}/{place.stem}", bytes(100))
        place.parent.mkdir()
        place.write_bytes(bytes(100))
        os.utime(place, (1e9 - age * 1e5, 1e9 - age * 1e5))
    kept = KeptCopies(tmp_path, 600, shared)
    kept.used(places[9])  # the oldest one, read now
    assert places[9].stat().st_mtime > 1e9 + USED_SECONDS
    # 1,000 bytes lie there, 570 may: five of 100 have to go, the oldest ones but for the last.
    kept.make_room(100)
    assert [place.exists() for place in places] == [True] * 4 + [False] * 5 + [True]
    # It looks again only after 30 more bytes, and asks the bucket for no list again.
    s3.asked.clear()
    places[4].write_bytes(bytes(1000))
    kept.make_room(29)
    assert places[4].exists()
    kept.make_room(1)
    assert sum(place.stat().st_size for place in places if place.exists()) <= 570
    assert s3.asked == []


def test_a_folder_of_its_own_keeps_everything(tmp_path: Path) -> None:
    copies = WorkingCopies(tmp_path, 64, max_bytes=1)
    digests = [copies.put(_picture(20, seed)) for seed in range(5)]
    assert all(map(copies.has, digests))
