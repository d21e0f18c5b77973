"""The process that decodes images for :mod:`backend.decoders`: it may be broken by one and harm
nothing else.

It reads requests from the socket that is its standard input and answers each on the same. A
request is :data:`REQUEST` and the file; an answer is :data:`ANSWER` and either width × height × 3
bytes of RGB or a text, never an object. It has no secrets, no other open file and no way to open
one, no more memory than it is given, and ends with its parent: when idle at once, when busy at the
image's time limit, by an alarm that no decoder has to heed.
"""

from __future__ import annotations

# Pillow imports some of these only when an image needs them, and then it is too late.
import copy  # noqa: F401
import os
import resource
import signal
import socket
import struct
import sys
import time
import warnings
from pathlib import Path

from PIL import AvifImagePlugin, Image, ImageColor, ImagePalette, MpoImagePlugin  # noqa: F401

from backend.decode import decode_image
from backend.errors import ImageError

REQUEST = struct.Struct("<QQId")
"""Bytes of the file, most pixels, wanted shorter side, seconds."""
ANSWER = struct.Struct("<BIII")
"""Kind, width, height, bytes of the text."""
ALARM_SECONDS = 1.0
"""How much later than the parent the alarm ends this process."""
READY, DECODED, REFUSED = 1, 2, 3
OUT_OF_MEMORY = 77
"""Exit code."""
LONGEST_TEXT = 2000
SEPARATOR = "\0"
"""Between an error's message and its mend."""

_STATM = Path("/proc/self/statm")


def main(memory: int) -> None:
    """Answer until the parent is gone; ``memory`` bytes may be used beyond what Python takes."""
    warnings.simplefilter("ignore")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    channel = socket.socket(fileno=0)
    _lock_up(memory)
    channel.sendall(ANSWER.pack(READY, 0, 0, 0))
    while (head := receive(channel, REQUEST.size)) is not None:
        length, max_pixels, side, seconds = REQUEST.unpack(head)
        signal.setitimer(signal.ITIMER_REAL, seconds + ALARM_SECONDS)
        data = receive(channel, length)
        if data is None:
            return
        answer = _decoded(bytes(data), max_pixels, side)
        del data
        channel.sendall(answer)
        signal.setitimer(signal.ITIMER_REAL, 0)


def receive(channel: socket.socket, length: int, *, until: float | None = None) -> bytearray | None:
    """Exactly ``length`` bytes; None when the other side ends before.

    ``until``: monotonic time; TimeoutError when they are not there by then.
    """
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        if until is not None:
            channel.settimeout(max(0.001, until - time.monotonic()))
        count = channel.recv_into(rest)
        if not count:
            return None
        rest = rest[count:]
    return data


def _decoded(data: bytes, max_pixels: int, side: int) -> bytes:
    Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)  # Pillow refuses twice that, before it decodes
    try:
        picture = decode_image(data, max_pixels=max_pixels, side=side)
    except ImageError as error:
        text = (error.message + SEPARATOR + error.mend).encode()[:LONGEST_TEXT]
        return ANSWER.pack(REFUSED, 0, 0, len(text)) + text
    return ANSWER.pack(DECODED, *picture.size, 0) + picture.tobytes()


def _lock_up(memory: int) -> None:
    """Whatever a broken decoder does from here on is done without files and sockets. Children
    are not forbidden: some decoders start threads, which the system counts as such."""
    used = 0
    if _STATM.exists():
        used = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    for limit, most in (
        (resource.RLIMIT_AS, used + memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        try:
            resource.setrlimit(limit, (most, most))
        except (OSError, ValueError):  # a system that knows no such limit, or has a lower one
            continue


def run() -> None:
    """Entry point: the memory is the first argument."""
    try:
        main(int(sys.argv[1]))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except OSError:  # the parent is gone
        os._exit(0)
