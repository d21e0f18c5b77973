from __future__ import annotations

import gc
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend import decoders as module
from backend.deadline import time_left, time_limit
from backend.decode import decode_image
from backend.decoders import Decoders
from backend.errors import ImageError
from tests.backend.made_images import VALID, noise, png, saved

GOOD = saved(noise(20, 10), "PNG")
PROC = Path("/proc")
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")


@pytest.fixture
def one() -> Iterator[Decoders]:
    """One child, which is there already."""
    made = Decoders(1)
    decode(made)
    yield made
    made.close()


def decode(decoders: Decoders, data: bytes = GOOD, side: int = 64) -> np.ndarray:
    return np.asarray(decoders.decode(data, max_pixels=100_000_000, side=side))


def refusal(decoders: Decoders, data: bytes = GOOD) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(decoders, data)
    return caught.value


def gone(pid: int) -> bool:
    """Whether a process is no more; waits for it for up to 30 s."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


# ---- the same pictures, the same errors


def test_every_format_comes_out_as_without(one: Decoders) -> None:
    for name, data in VALID.items():
        for side in (3, 64):
            here = decode_image(data, max_pixels=1000, side=side)
            picture = one.decode(data, max_pixels=1000, side=side)
            assert (picture.mode, picture.size) == ("RGB", here.size), name
            assert (np.asarray(picture) == np.asarray(here)).all(), name
    mpo = saved(noise(9, 7), "MPO", save_all=True, append_images=[noise(9, 7, seed=2)])
    assert decode(one, mpo).shape == (7, 9, 3)
    assert len(one.pids()) == 1


def test_errors_come_through_whole(one: Decoders) -> None:
    child = one.pids()
    error = refusal(one, png(60_000, 60_000, 8, 2, b""))
    assert error.message == "The image has 60000 × 60000 pixels, more than 100,000,000."
    assert error.mend == "TIEBREAK_IMAGE_MAX_PIXELS is the limit."
    assert not error.retry
    assert "empty" in refusal(one, b"").message
    assert "web page" in refusal(one, b"<html>").message
    assert "cut off" in refusal(one, GOOD[: len(GOOD) // 2]).message
    assert one.pids() == child


# ---- a child that breaks fails one image


def stopped(decoders: Decoders) -> int:
    """A child that is stopped in its tracks."""
    (pid,) = decoders.pids()
    os.kill(pid, signal.SIGSTOP)
    return pid


@linux
@pytest.mark.parametrize(
    ("number", "message", "retry"),
    [
        (signal.SIGSEGV, "broke down on the image (signal SIGSEGV)", False),
        (signal.SIGABRT, "broke down on the image (signal SIGABRT)", False),
        (signal.SIGALRM, "takes longer than 20 s", False),
        (signal.SIGKILL, "was ended", True),
    ],
)
def test_a_crash_fails_that_image_and_the_next_is_decoded(
    one: Decoders, number: signal.Signals, message: str, retry: bool
) -> None:
    pid = stopped(one)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(refusal, one)
        time.sleep(0.05)
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        error = waiting.result()
    assert message in error.message
    assert error.retry is retry
    assert gone(pid)
    assert decode(one).shape == (10, 20, 3)
    assert one.pids() != [pid]


@linux
def test_a_child_that_hangs_is_replaced() -> None:
    decoders = Decoders(1, seconds=0.2)
    with time_limit(60):
        pid = None
        while pid is None:  # a busy machine may need longer than that for any image
            try:
                decode(decoders)
            except ImageError:
                continue
            pid = stopped(decoders)
    error = refusal(decoders)
    assert error.message == "Decoding the image takes longer than 0.2 s."
    assert "TIEBREAK_IMAGE_DECODE_SECONDS" in error.mend
    assert not error.retry
    assert gone(pid)
    decoders.close()


@linux
def test_memory_is_limited() -> None:
    decoders = Decoders(1, memory=100_000_000)
    assert decode(decoders).shape == (10, 20, 3)
    child = decoders.pids()
    large = png(6000, 6000, 8, 6, bytes(6000 * (1 + 4 * 6000)))  # 144 MB of pixels, 140 kB long
    error = refusal(decoders, large)
    assert error.message == "There is not enough memory to decode the image."
    assert "TIEBREAK_IMAGE_DECODE_MEMORY" in error.mend
    assert not error.retry
    assert decode(decoders).shape == (10, 20, 3)
    assert decoders.pids() == child
    error = refusal(decoders, bytes(120_000_000))  # the file alone is too much
    assert error.message == "There is not enough memory to decode the image."
    assert decode(decoders).shape == (10, 20, 3)
    decoders.close()


LIARS = {
    "a picture too large": "c.sendall(struct.pack('<BIII', 2, 99999, 99999, 0))",
    "no kind": "c.sendall(struct.pack('<BIII', 9, 1, 1, 0))",
    "an endless text": "c.sendall(struct.pack('<BIII', 3, 0, 0, 1 << 31))",
    "half a picture": "c.sendall(struct.pack('<BIII', 2, 8, 8, 0) + bytes(100))",
}


@pytest.mark.parametrize("lie", sorted(LIARS))
def test_what_a_child_says_is_not_believed(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import socket, struct; c = socket.socket(fileno=0); "
    code += "c.sendall(struct.pack('<BIII', 1, 0, 0, 0)); c.recv(10_000); "
    monkeypatch.setattr(module, "_CODE", code + LIARS[lie])
    decoders = Decoders(1)
    error = refusal(decoders)
    assert ("gave no picture" in error.message) or ("broke down" in error.message)
    assert not error.retry
    assert decoders.pids() == []


def test_a_text_is_made_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import socket, struct; c = socket.socket(fileno=0); "
    code += "c.sendall(struct.pack('<BIII', 1, 0, 0, 0)); c.recv(10_000); "
    code += "c.sendall(struct.pack('<BIII', 3, 0, 0, 9) + b'a\\n\\x1b[1mb\\0m'); c.recv(1)"
    monkeypatch.setattr(module, "_CODE", code)
    decoders = Decoders(1)
    error = refusal(decoders)
    assert (error.message, error.mend) == ("a??[1mb", "m")
    decoders.close()


# ---- no child to be had


def test_a_child_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = Decoders(1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        error = refusal(decoders)
        assert "cannot be started (No such file or directory)" in error.message
        assert "/nowhere/python" in error.mend
        assert error.retry
        patch.setattr(sys, "executable", "/bin/false")
        assert "cannot be started (exit code 1)" in refusal(decoders).message
        assert decoders.pids() == []
    assert decode(decoders).shape == (10, 20, 3)
    decoders.close()


@linux
def test_no_time_is_left(one: Decoders) -> None:
    pid = stopped(one)
    with ThreadPoolExecutor(1) as thread:

        def first() -> ImageError:
            with time_limit(0.6):
                return refusal(one)

        waiting = thread.submit(first)
        time.sleep(0.1)
        with time_limit(0.1):  # no child is free
            error = refusal(one)
        assert (error.message, error.retry) == ("There was no time left to decode the image.", True)
        os.kill(pid, 0)
        error = waiting.result()
    assert (error.message, error.retry) == ("There was no time left to decode the image.", True)
    assert gone(pid)
    assert decode(one).shape == (10, 20, 3)


def test_the_sooner_of_two_limits_holds() -> None:
    assert time_left() is None
    with time_limit(5):
        with time_limit(100):
            assert 0 < time_left() <= 5  # type: ignore[operator]
        with time_limit(-1):
            assert time_left() <= -1  # type: ignore[operator]
        assert 0 < time_left() <= 5  # type: ignore[operator]
    assert time_left() is None


# ---- what a child has, and how long it lives


@linux
def test_a_child_has_no_secrets_and_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret-of-this-test")
    decoders = Decoders(1)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.set_inheritable(True)
        decode(decoders)
        (pid,) = decoders.pids()
        folder = PROC / str(pid)
        assert b"secret" not in (folder / "environ").read_bytes()
        assert b"secret" not in (folder / "cmdline").read_bytes()
        assert sorted(int(file.name) for file in (folder / "fd").iterdir()) == [0, 1, 2]
        assert {os.readlink(folder / "fd" / n) for n in "12"} == {os.devnull}
        assert "torch" not in (folder / "maps").read_text()
        limits = {
            line[:26].strip(): line[26:].split()[:2]
            for line in (folder / "limits").read_text().splitlines()
        }
        for none in ("Max open files", "Max file size", "Max core file size"):
            assert limits[none] == ["0", "0"]
        assert int(limits["Max address space"][1]) < 900_000_000 + 500_000_000
        assert (folder / "cwd").resolve() == Path("/")
    decoders.close()
    assert gone(pid)


PARENT = """
import os, sys, time
from backend.decoders import Decoders
decoders = Decoders(1)
decoders.decode(open(sys.argv[1], "rb").read(), max_pixels=1000, side=64)
print(decoders.pids()[0], flush=True)
if sys.argv[2] == "stay":
    time.sleep(600)
"""


@linux
@pytest.mark.parametrize("end", ["stay", "leave"])
def test_a_child_ends_with_its_parent(end: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(GOOD)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "a.png"), end], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.stdout.close()
    if end == "stay":
        assert not (PROC / str(pid) / "stat").read_text().startswith("0")
        parent.kill()
    parent.wait()
    assert gone(pid)


@linux
def test_a_fork_has_children_of_its_own(one: Decoders) -> None:
    before = one.pids()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork among threads
        fork = os.fork()
    if fork == 0:
        try:
            assert one.pids() == []
            decode(one)
            os.write(writer, str(one.pids()[0]).encode())
            one.close()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        theirs = int(file.read())
    os.waitpid(fork, 0)
    assert theirs not in before
    assert decode(one).shape == (10, 20, 3)
    assert one.pids() == before


@linux
def test_nothing_is_left_of_decoders_that_nobody_has() -> None:
    decoders = Decoders(2)
    decode(decoders)
    (pid,) = decoders.pids()
    del decoders
    gc.collect()
    assert gone(pid)


def test_children_are_renewed(one: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWED_AFTER", 3)
    (first,) = one.pids()  # it has decoded one
    decode(one)
    assert one.pids() == [first]
    decode(one)
    assert one.pids() == []
    decode(one)
    assert one.pids() != [first]


def test_threads_share_a_few_children() -> None:
    decoders = Decoders(2)
    pictures = [saved(noise(30, 20, seed), "PNG") for seed in range(6)]
    seen: set[int] = set()

    def look(position: int) -> bool:
        found = decode(decoders, pictures[position % 6])
        seen.update(decoders.pids())
        wanted = np.asarray(Image.open(io.BytesIO(pictures[position % 6])))
        return bool((found == wanted).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(look, range(60)))
    assert 1 <= len(seen) <= 2
    decoders.close()
    assert threading.active_count() >= 1
