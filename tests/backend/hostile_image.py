"""What a hostile image file is, and what must come of it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

DAMAGED = "cut off"
"""Of damaged ones too: "damaged or cut off"."""
TOO_LARGE = "pixels, more than 100,000,000|too many pixels"
MEMORY = "not enough memory"
TIME = "takes longer than"


@dataclass(frozen=True)
class Hostile:
    """A file, and its outcome: the ``size`` it is decoded to (width, height), or an error that
    ``says`` (a regular expression); either where both are given.
    ``heavy``: takes seconds or hundreds of megabytes."""

    name: str
    make: Callable[[], bytes]
    size: tuple[int, int] | None = None
    says: str = ""
    heavy: bool = False


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Image.Image:
    """A picture that compresses badly."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    """``image`` as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def deflated(piece: bytes, times: int) -> bytes:
    """``piece`` over and over as a zlib stream, without ever holding all of it."""
    packer = zlib.compressobj(9)
    block = piece * max(1, min(times, 1_000_000 // len(piece)))
    count, rest = divmod(len(piece) * times, len(block))
    packed = [packer.compress(block) for _ in range(count)]
    return b"".join([*packed, packer.compress(block[:rest]), packer.flush()])


def endless_exif(orientation: int) -> bytes:
    """EXIF whose directories, the next and those of GPS, EXIF and interoperability, are itself."""
    entries = [(0x0112, 3, 1, orientation), (0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8)]
    packed = b"".join(
        struct.pack("<HHI", tag, kind, count) + struct.pack("<I", value)
        for tag, kind, count, value in entries
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", 8)


def truncations(name: str, data: Callable[[], bytes], says: str = DAMAGED) -> list[Hostile]:
    """A file cut after a quarter, after half and after three quarters of it."""

    def cut(share: float) -> Callable[[], bytes]:
        return lambda: data()[: int(len(data()) * share)]

    return [
        Hostile(f"{name}, cut at {share:.0%}", cut(share), says=says) for share in (0.25, 0.5, 0.75)
    ]
