"""Hostile TIFF files."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from PIL import Image

from tests.backend.hostile_image import DAMAGED, TOO_LARGE, Hostile, deflated, noise, saved
from tests.backend.hostile_image import truncations as cut

LZW, DEFLATE, PACKBITS = 5, 8, 32773


def tiff(
    pixels: bytes = bytes(300),
    *,
    after: int = 0,
    behind: bytes = b"",
    **changed: int,
) -> bytes:
    """A grey picture of 10 × 30 in one strip; ``changed`` are values of its tags.

    ``after``: where its directory says the next one is; ``behind``: what follows all of it.
    """
    values: Mapping[str, tuple[int, int]] = {
        "width": (256, 10), "height": (257, 30), "bits": (258, 8), "compression": (259, 1),
        "photometric": (262, 1), "offset": (273, 8), "samples": (277, 1), "rows": (278, 30),
        "length": (279, len(pixels)),
    }  # fmt: skip
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, changed.get(name, value))
        for name, (tag, value) in values.items()
    )
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", after)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + behind


def packbits(count: int) -> bytes:
    """``count`` × 128 zeros in two bytes each."""
    return b"\x81\0" * count


def _chain(count: int) -> bytes:
    """A picture and ``count`` more directories, each of one tag, one behind the other."""
    start = len(tiff())
    links = [
        struct.pack("<HHHIII", 1, 254, 4, 1, 0, start + 18 * (number + 1))
        for number in range(count - 1)
    ]
    last = struct.pack("<HHHIII", 1, 254, 4, 1, 0, 0)
    return tiff(after=start, behind=b"".join([*links, last]))


def _itself() -> bytes:
    return tiff(after=8 + 300)


def _floats() -> bytes:
    values = np.array([[0, np.nan, np.inf, -np.inf, 1e38, -1e38]], np.float32)
    return saved(Image.fromarray(values), "TIFF")


def _many_values() -> bytes:
    """A tag that says it has 2³² − 1 values."""
    whole = bytearray(tiff())
    place = whole.index(struct.pack("<HHI", 273, 4, 1))
    whole[place + 4 : place + 8] = b"\xff" * 4
    return bytes(whole)


def _zeros(compression: int, packed: bytes, side: int) -> bytes:
    return tiff(packed, width=side, height=side, rows=side, compression=compression)


TIFFS = [
    Hostile("header of 2³¹ − 1 squared", lambda: tiff(width=2**31 - 1, height=2**31 - 1),
            says=TOO_LARGE),
    Hostile("width 0", lambda: tiff(width=0), says=DAMAGED),
    Hostile("a directory that leads to itself", _itself, size=(10, 30)),
    Hostile("a million directories", lambda: _chain(1_000_000), size=(10, 30)),
    Hostile("a strip beyond the file", lambda: tiff(offset=2**31), says=DAMAGED),
    Hostile("a strip of 4 GB", lambda: tiff(length=2**32 - 1), size=(10, 30)),
    Hostile("a packed strip of 4 GB", lambda: tiff(packbits(3), compression=PACKBITS,
                                                   length=2**32 - 1), says=DAMAGED),
    Hostile("2³² − 1 offsets", _many_values, says=DAMAGED),
    Hostile("no rows in a strip", lambda: tiff(rows=0), says=DAMAGED),
    Hostile("64 bits a sample", lambda: tiff(bits=64), says=DAMAGED),
    Hostile("60,000 samples a pixel", lambda: tiff(samples=60_000), says=DAMAGED),
    Hostile("an unknown compression", lambda: tiff(compression=40_000), says=DAMAGED),
    Hostile("run-length bomb, 16 megapixels", lambda: _zeros(PACKBITS, packbits(125_000), 4000),
            size=(288, 288)),
    Hostile("deflate bomb, 16 megapixels", lambda: _zeros(DEFLATE, deflated(bytes(4000), 4000),
                                                          4000), size=(288, 288)),
    Hostile("LZW of random bytes", lambda: tiff(noise(10, 30, 1).tobytes(), compression=LZW),
            says=DAMAGED),
    Hostile("floats without end, and none", _floats, size=(6, 1)),
    Hostile("32-bit integers", lambda: saved(Image.new("I", (9, 7), 2**31 - 1), "TIFF"),
            size=(9, 7)),
    Hostile("LAB", lambda: saved(Image.new("LAB", (9, 7)), "TIFF"), says="colour mode LAB"),
    Hostile("CMYK", lambda: saved(Image.new("CMYK", (9, 7)), "TIFF"), size=(9, 7)),
    Hostile("a picture of 2 and 500 more", lambda: saved(
        Image.new("L", (2, 2)), "TIFF", save_all=True, append_images=[Image.new("L", (1, 1))] * 500,
    ), size=(2, 2)),
    Hostile("100 megapixels, LZW in one strip", lambda: _lzw(10_000), size=(288, 288), heavy=True),
    Hostile("100 megapixels, deflated", lambda: _zeros(DEFLATE, deflated(bytes(10_000), 10_000),
                                                       10_000), size=(288, 288), heavy=True),
    Hostile("100 megapixels of floats", lambda: tiff(
        deflated(bytes(40_000), 10_000), width=10_000, height=10_000, rows=10_000, bits=32,
        compression=DEFLATE), size=(288, 288), heavy=True),
    *cut("TIFF", lambda: saved(noise(80, 60), "TIFF", compression="tiff_lzw")),
]  # fmt: skip


def _lzw(side: int) -> bytes:
    whole = saved(
        Image.new("L", (side, side)), "TIFF", compression="tiff_lzw", tiffinfo={278: side}
    )
    return whole
