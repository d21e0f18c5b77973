"""Decodes images of others in processes of their own, where a broken decoder harms nothing.

The files come from anywhere, and the libraries that read them are large and written in C. So each
image is decoded by a child (:mod:`backend.decode_child`) with a limit on its memory and its time.
One that crashes, or takes more than it may, fails that image alone, and the child is replaced. A
child stays for many images, so that an image costs little more than without. What comes back is a
fixed header and pixels, checked for their length, or a text.

Children are started by a fresh interpreter, when they are first needed: a fork of this process,
before or after, neither shares nor harms them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

from PIL import Image

from backend.deadline import time_left
from backend.decode import fits_in, not_enough_memory
from backend.decode_child import (
    ANSWER,
    DECODED,
    LONGEST_TEXT,
    OUT_OF_MEMORY,
    READY,
    REFUSED,
    REQUEST,
    SEPARATOR,
    receive,
)
from backend.errors import ImageError

PROCESSES = 2
MEMORY = 900_000_000
SECONDS = 20.0
START_SECONDS = 60.0
DYING_SECONDS = 1.0
"""How long a process that has closed its socket may take to end, and to say so."""
RENEWED_AFTER = 1000
"""Images that a child decodes before a new one takes its place."""

_ROOT = Path(__file__).resolve().parents[1]
_CODE = "import sys; sys.path[:] = sys.argv[2:]; from backend.decode_child import run; run()"
_SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
# Memory that goes back to the system after every image comes again page by page, which costs as
# much as resizing.
_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
_BY_OTHERS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Decoders:
    """At most ``processes`` children; may be shared by threads.

    ``memory``: bytes that a child may use for one image; ``seconds``: how long it may take.
    """

    def __init__(
        self, processes: int = PROCESSES, *, memory: int = MEMORY, seconds: float = SECONDS
    ) -> None:
        self._processes = processes
        self._memory = memory
        self._seconds = seconds
        self._alive: set[_Child] = set()
        self._free = _places(processes)
        weakref.finalize(self, _end_all, self._alive)
        _everywhere.add(self)

    def decode(self, data: bytes, *, max_pixels: int, side: int) -> Image.Image:
        """As :func:`backend.decode.decode_image`, in a child.

        :class:`ImageError` with ``retry=False`` also when the child broke down on the image or
        took too long; with ``retry=True`` when no child can be had, or no time is left.
        """
        places, child = self._free, self._free_child()
        try:
            if child is None:
                child = self._started()
            return self._asked(child, data, max_pixels, side)
        finally:
            places.put(self._kept(child))

    def close(self) -> None:
        """End the children; another image would start new ones."""
        _end_all(self._alive)

    def pids(self) -> list[int]:
        """Process ids of the children that are there."""
        return [child.process.pid for child in list(self._alive)]

    def forget(self) -> None:
        """Leave the children to the process that started them: this one is a fork of it."""
        for child in self._alive:
            child.channel.close()
            child.process.returncode = 0
        self._alive.clear()
        self._free = _places(self._processes)

    def _free_child(self) -> _Child | None:
        """A child that is free; None: one may be started."""
        left = time_left()
        try:
            child = self._free.get(timeout=None if left is None else max(0.0, left))
        except queue.Empty:
            raise _no_time() from None
        return child if child in self._alive else None

    def _started(self) -> _Child:
        try:
            child = _Child(self._memory)
        except OSError as error:
            raise _cannot_start(error.strerror or type(error).__name__) from None
        self._alive.add(child)
        try:
            child.greet()
        except (OSError, ValueError):
            self._alive.discard(child)
            raise _cannot_start(f"exit code {child.end(DYING_SECONDS)}") from None
        return child

    def _kept(self, child: _Child | None) -> _Child | None:
        """The child, where it can take another image."""
        if child is None or not (child.busy or child.decoded >= RENEWED_AFTER):
            return child
        self._alive.discard(child)
        child.end()
        return None

    def _asked(self, child: _Child, data: bytes, max_pixels: int, side: int) -> Image.Image:
        left = time_left()
        seconds = self._seconds if left is None else min(self._seconds, left)
        if seconds <= 0:
            raise _no_time()
        try:
            return child.ask(data, max_pixels, side, seconds)
        except (OSError, ValueError) as error:
            status = child.end(DYING_SECONDS if isinstance(error, ConnectionError) else 0.0)
            if isinstance(error, TimeoutError) or status == -signal.SIGALRM:
                raise _no_time() if seconds < self._seconds else self._too_slow() from None
            raise _broken(error, status) from None

    def _too_slow(self) -> ImageError:
        return ImageError(
            f"Decoding the image takes longer than {self._seconds:g} s.",
            retry=False,
            mend="TIEBREAK_IMAGE_DECODE_SECONDS is the limit.",
        )


class _Child:
    """One process that decodes, and the socket to it; ``busy`` until an answer is whole."""

    def __init__(self, memory: int) -> None:
        self.busy = True
        self.decoded = 0
        self.channel, theirs = socket.socketpair()
        paths = [str(_ROOT), *(path for path in sys.path if os.path.isabs(path))]
        libraries = {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"}
        with theirs:
            try:
                # -I and -S: nothing of the environment or of the folder it starts in is read
                self.process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-I", "-S", "-B", "-c", _CODE, str(memory), *paths],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_SINGLE | _KEPT | libraries,
                    cwd="/",
                    start_new_session=True,  # a ctrl-c is for the parent, which may want answers
                )
            except OSError:
                self.channel.close()
                raise

    def greet(self) -> None:
        """Wait until it is ready; OSError or ValueError when it never is."""
        if self._head(time.monotonic() + START_SECONDS)[0] != READY:
            raise ValueError("not ready")
        self.busy = False

    def ask(self, data: bytes, max_pixels: int, side: int, seconds: float) -> Image.Image:
        """The picture. :class:`ImageError` where it says why not; TimeoutError after ``seconds``;
        OSError when it is gone; ValueError when what it answers is no picture."""
        until = time.monotonic() + seconds
        self.busy, self.decoded = True, self.decoded + 1
        self.channel.settimeout(seconds)
        self.channel.sendall(REQUEST.pack(len(data), max_pixels, side, seconds))
        self.channel.sendall(data)
        kind, width, height, length = self._head(until)
        if kind == REFUSED and length <= LONGEST_TEXT:
            error = _refusal(self._receive(length, until))
            self.busy = False
            raise error
        fits = min(width, height) >= 1 and fits_in(width, height, side)
        if kind != DECODED or not fits:
            raise ValueError("not a picture")
        pixels = self._receive(width * height * 3, until)
        self.busy = False
        return Image.frombytes("RGB", (width, height), bytes(pixels))

    def end(self, patience: float = 0.0) -> int:
        """End it, unless it ends by itself within ``patience`` seconds; its exit code, or minus
        the signal that ended it."""
        if patience:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self.process.kill()
        status = self.process.wait()
        self.channel.close()
        return status

    def _head(self, until: float) -> tuple[int, int, int, int]:
        kind, width, height, length = ANSWER.unpack(self._receive(ANSWER.size, until))
        return kind, width, height, length

    def _receive(self, length: int, until: float) -> bytearray:
        data = receive(self.channel, length, until=until)
        if data is None:
            raise ConnectionError("it ended")
        return data


def _refusal(said: bytearray) -> ImageError:
    text = said.decode(errors="replace")
    message, _, mend = text.partition(SEPARATOR)
    shown = ("".join(c if c.isprintable() else "?" for c in part) for part in (message, mend))
    message, mend = shown
    return ImageError(message, retry=False, mend=mend)


def _broken(error: Exception, status: int) -> ImageError:
    if isinstance(error, ValueError):
        return ImageError("The decoder gave no picture.", retry=False)
    if status == OUT_OF_MEMORY:
        return not_enough_memory()
    if -status in _BY_OTHERS:
        return ImageError("The process that decoded the image was ended.", retry=True)
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
    return ImageError(f"The decoder broke down on the image ({how}).", retry=False)


def _no_time() -> ImageError:
    return ImageError("There was no time left to decode the image.", retry=True)


def _cannot_start(why: str) -> ImageError:
    return ImageError(
        f"The process that decodes images cannot be started ({why}).",
        retry=True,
        mend=f"See that {sys.executable} can be run, and that there is memory and room for"
        " another process.",
    )


_Places = queue.LifoQueue["_Child | None"]
_everywhere: weakref.WeakSet[Decoders] = weakref.WeakSet()


def _places(count: int) -> _Places:
    """Children that are free, the last used on top; None stands for one that is not started."""
    places: _Places = queue.LifoQueue()
    for _ in range(count):
        places.put(None)
    return places


def _end_all(children: set[_Child]) -> None:
    for child in list(children):
        children.discard(child)
        child.end()


def _forget_all() -> None:
    for decoders in list(_everywhere):
        decoders.forget()


os.register_at_fork(after_in_child=_forget_all)
