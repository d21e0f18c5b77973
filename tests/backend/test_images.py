from __future__ import annotations

import base64
import hashlib
import io
import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from backend.data_uris import read_data_uri
from backend.errors import ImageError
from backend.images import ImageFetcher, shortened
from backend.settings import Settings
from backend.working_copies import WorkingCopies
from model.errors import ArgumentError, StorageError
from tests.backend.peers import shared_decoders


def picture(width: int, height: int, seed: int = 0) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# ---- working copies


def test_a_small_picture_is_kept_exactly(tmp_path: Path) -> None:
    data = picture(8, 8)
    copies = WorkingCopies(tmp_path, 288)
    digest = copies.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert copies.path(digest) == tmp_path / digest[:2] / f"{digest}.png"
    assert copies.has(digest)
    opened = copies.open(digest)
    assert (np.asarray(opened) == np.asarray(Image.open(io.BytesIO(data)))).all()


@pytest.mark.parametrize(("side", "suffix"), [(64, ".png"), (65, ".jpg")])
def test_larger_pictures_are_jpeg(tmp_path: Path, side: int, suffix: str) -> None:
    copies = WorkingCopies(tmp_path, 288)
    assert copies.path(copies.put(picture(side, 80))).suffix == suffix


def test_jpeg_copies_keep_full_chroma_and_are_reduced(tmp_path: Path) -> None:
    smooth = Image.open(io.BytesIO(picture(8, 6))).resize((400, 300), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    smooth.save(buffer, "PNG")
    copies = WorkingCopies(tmp_path, 96)
    opened = copies.open(copies.put(buffer.getvalue()))
    assert opened.size == (128, 96)
    assert opened.mode == "RGB"
    wanted = np.asarray(smooth.resize((128, 96), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(opened) - wanted).mean() < 2
    with Image.open(files(tmp_path)[0]) as kept:
        assert isinstance(kept, JpegImageFile)
        assert {sampling[1:3] for sampling in kept.layer} == {(1, 1)}


def test_a_copy_that_is_there_is_left_alone(tmp_path: Path) -> None:
    copies = WorkingCopies(tmp_path, 288)
    digest = copies.put(picture(8, 8))
    before = copies.path(digest).stat()
    assert copies.put(picture(8, 8)) == digest
    after = copies.path(digest).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(files(tmp_path)) == 1


def test_what_is_no_image_leaves_nothing(tmp_path: Path) -> None:
    copies = WorkingCopies(tmp_path, 288)
    with pytest.raises(ImageError, match="a web page, not an image"):
        copies.put(b"<html>")
    assert files(tmp_path) == []


def test_pixels_are_limited(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than 99"):
        WorkingCopies(tmp_path, 288, max_pixels=99).put(picture(10, 10))


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8\xff", None])
def test_a_damaged_copy_is_removed_and_can_be_put_again(
    tmp_path: Path, damage: bytes | None
) -> None:
    data = picture(100, 90)
    copies = WorkingCopies(tmp_path, 288)
    digest = copies.put(data)
    path = copies.path(digest)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(ImageError, match="was damaged and is removed") as caught:
        copies.open(digest)
    assert caught.value.retry
    assert not copies.has(digest)
    with pytest.raises(ImageError, match="no working copy") as caught:
        copies.open(digest)
    assert caught.value.retry
    assert copies.put(data) == digest
    assert copies.open(digest).size == (100, 90)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "AB" * 32, "0" * 63])
def test_only_digests_are_paths(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ArgumentError, match="64 hexadecimal digits"):
        WorkingCopies(tmp_path, 288).path(digest)


def test_threads_put_the_same_image(tmp_path: Path) -> None:
    copies = WorkingCopies(tmp_path, 288)
    data = [picture(100, 90, seed) for seed in range(3)] * 4
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda d=d: digests.append(copies.put(d)))  # type: ignore[misc]
        for d in data
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 12
    assert len(files(tmp_path)) == 3
    assert all(copies.open(digest).size == (100, 90) for digest in digests)


def _put_for_ever(folder: Path) -> None:
    copies = WorkingCopies(folder, 288)
    for seed in range(100_000):
        copies.put(picture(120, 110, seed))


def test_a_killed_process_leaves_no_half_copy(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_put_for_ever, args=(tmp_path,))
    process.start()
    until = time.monotonic() + 60
    while len(files(tmp_path)) < 10 and time.monotonic() < until:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = [path for path in files(tmp_path) if path.parent.name != "unfinished"]
    copies = WorkingCopies(tmp_path, 288)
    assert len(kept) >= 5
    for path in kept:
        assert copies.open(path.stem).size == (120, 110)


def test_what_was_left_unfinished_is_swept_when_old(tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    old, new = unfinished / "old", unfinished / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    WorkingCopies(tmp_path, 288)
    assert (old.exists(), new.exists()) == (False, True)


def _put_with_little_room(folder: Path, answer: multiprocessing.queues.Queue[object]) -> None:
    # A limit on the size of files stops the write in the middle, as a full disk does.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        WorkingCopies(folder, 288).put(picture(120, 110))
    except StorageError as error:
        answer.put((type(error).__name__, str(error)))
    else:
        answer.put(None)


def test_no_room_on_the_disk(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.queues.Queue[object] = context.Queue()
    process = context.Process(target=_put_with_little_room, args=(tmp_path, answer))
    process.start()
    found = answer.get(timeout=60)
    process.join()
    assert isinstance(found, tuple)
    kind, message = found
    digest = hashlib.sha256(picture(120, 110)).hexdigest()
    assert kind == "StorageError"
    assert f"{tmp_path / digest[:2] / digest}.jpg" in message
    assert "cannot be written" in message
    assert "bytes are needed" in message
    assert files(tmp_path) == []


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"a file in the way")
    with pytest.raises(StorageError, match=r"working copy cannot be written .*images is a file"):
        WorkingCopies(tmp_path / "images", 288).put(picture(8, 8))


# ---- data URIs


def fetcher(folder: Path) -> ImageFetcher:
    settings = Settings(data_dir=folder, image_max_bytes=5000)
    return ImageFetcher(settings, None, decoders=shared_decoders())


def test_data_uris(tmp_path: Path) -> None:
    data = picture(8, 8)
    digest = hashlib.sha256(data).hexdigest()
    text = base64.b64encode(data).decode()
    fetch = fetcher(tmp_path).fetch
    for uri in (
        f"data:image/png;base64,{text}",
        f"DATA:;BASE64,{text}",
        f"data:image/png;charset=x;base64,{text.rstrip('=')}",
        f"data:image/png;base64,{text[:30]}\n {text[30:]}",
        f"data:image/png;base64,{text.replace('+', '%2B').replace('=', '%3D')}",
        f"data:image/png,{quote_from_bytes(data)}",
    ):
        assert fetch(uri, 1) == digest


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,####", "base64 is malformed"),
        ("data:image/png;base64,A", "base64 is malformed"),
        ("data:image/png;base64,é", "base64 is malformed"),
        ("data:,", "empty"),
        ("data:image/png;base64," + "A" * 8000, "larger than 5,000 bytes"),
        ("data:image/png;base64," + "A" * 30_000, "larger than 5,000 bytes"),
        ("data:image/png," + "A" * 5001, "larger than 5,000 bytes"),
        ("data:text/html,<html>", "a web page, not an image"),
    ],
)
def test_malformed_data_uris(tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        fetcher(tmp_path).fetch(uri, 1)
    assert not caught.value.retry
    assert str(caught.value).startswith("data: URI: ")


@given(st.text(max_size=60), st.booleans())
def test_data_uris_of_any_text(text: str, base64_: bool) -> None:
    try:
        data = read_data_uri(f"data:x{';base64' if base64_ else ''},{text}", 40)
    except ImageError as error:
        assert not error.retry  # noqa: PT017
        return
    assert len(data) <= 40


# ---- addresses that are none, and how they are named


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "cat.png",
        "./cat.png",
        "//evil.example/cat.png",
        "/\\evil.example/cat.png",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "ftp://host.example/cat.png",
        "javascript:alert(1)",
        "gopher://host.example/1",
        "C:\\cat.png",
        "s3://",
        "s3://bucket",
        "s3:bucket/key",
        "image/png;base64,AAAA",
    ],
)
def test_what_is_no_address(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ImageError, match="not an address that images are fetched from") as caught:
        fetcher(tmp_path).fetch(uri, 1)
    assert not caught.value.retry


@pytest.mark.parametrize("uri", ["/data/upload/1/a.png", "s3://bucket/key.png"])
def test_without_a_label_studio(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ImageError, match="none is set") as caught:
        fetcher(tmp_path).fetch(uri, 1)
    assert "LABEL_STUDIO_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("data:image/png;base64,SECRET", "data: URI"),
        ("https://host/a.png?X-Amz-Signature=SECRET", "https://host/a.png"),
        ("https://host/a.png#SECRET", "https://host/a.png"),
        ("https://user:SEC@RET@host/a.png", "https://host/a.png"),
        ("s3://bucket/a key.png", "s3://bucket/a key.png"),
        ("/a\n\x1b[31mb", "/a??[31mb"),
        ("/" + "a" * 200, "/" + "a" * 98 + "…"),
    ],
)
def test_addresses_are_named_without_secrets(uri: str, shown: str) -> None:
    assert shortened(uri) == shown
