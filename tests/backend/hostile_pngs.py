"""Hostile PNG files."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from tests.backend.hostile_image import (
    DAMAGED,
    MEMORY,
    TOO_LARGE,
    Hostile,
    deflated,
    endless_exif,
    noise,
    saved,
    truncations,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ROWS = (b"\0" + bytes(range(30))) * 10


def chunk(kind: bytes, content: bytes, wrong: int = 0) -> bytes:
    """A chunk; its checksum is off by ``wrong``."""
    check = (zlib.crc32(kind + content) + wrong) & 0xFFFFFFFF
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(
    width: int = 10,
    height: int = 10,
    *extra: bytes,
    bits: int = 8,
    colour: int = 2,
    interlace: int = 0,
    packed: bytes | None = None,
) -> bytes:
    """A PNG with more chunks before its pixels; by default a sound one of 10 × 10."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    pixels = zlib.compress(ROWS) if packed is None else packed
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


def plain(width: int, height: int, *, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """Black, and small as a file however large."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = b"\0" + bytes((width * channels * bits + 7) // 8)
    rows = deflated(row, height * (2 if interlace else 1))  # more than any interlacing needs
    return png(width, height, bits=bits, colour=colour, interlace=interlace, packed=rows)


def _in_a_zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("script.js", "alert(1)")
    return png() + archive.getvalue()


def _many_frames(written: int, told: int) -> bytes:
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 10, 10, 0, 0, 1, 10, 0, 0))
    frame = control + chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(ROWS))
    whole = png(10, 10, chunk(b"acTL", struct.pack(">II", told, 0)), control)
    end = whole.index(b"IEND") - 4
    return whole[:end] + frame * written + whole[end:]


def _wrong_check(kind: bytes) -> bytes:
    whole = bytearray(png())
    place = whole.index(kind)
    length = struct.unpack(">I", whole[place - 4 : place])[0]
    whole[place + 4 + length] ^= 0xFF
    return bytes(whole)


_PALETTE = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
_BEYOND = zlib.compress(b"".join(b"\0" + bytes(range(n, n + 10)) for n in range(0, 100, 10)))
_TEXT = chunk(b"tEXt", b"a\0b")

PNGS = [
    Hostile("header of 60,000 × 60,000", lambda: png(60_000, 60_000, packed=b""), says=TOO_LARGE),
    Hostile("header of 2³¹ − 1 squared", lambda: png(2**31 - 1, 2**31 - 1), says=TOO_LARGE),
    Hostile("width 0", lambda: png(0, 10), says=DAMAGED),
    Hostile("height 0", lambda: png(10, 0), says=DAMAGED),
    Hostile("1 × 1,000,000", lambda: plain(1, 1_000_000), size=(1, 2304)),
    Hostile("1,000,000 × 1", lambda: plain(1_000_000, 1), size=(2304, 1)),
    Hostile("3,000 × 3,000 in 30 kB", lambda: plain(3000, 3000), size=(288, 288)),
    Hostile("pixels go on for 50 MB", lambda: png(packed=deflated(bytes(100), 500_000)),
            size=(10, 10)),
    Hostile("pixels that are no zlib", lambda: png(packed=b"x" * 300), says=DAMAGED),
    Hostile("no pixels", lambda: png(packed=b""), says=DAMAGED),
    Hostile("wrong checksum of the header", lambda: _wrong_check(b"IHDR"), says=DAMAGED),
    Hostile("wrong checksum of the pixels", lambda: _wrong_check(b"IDAT"), size=(10, 10)),
    Hostile("wrong checksum of a text", lambda: png(10, 10, chunk(b"tEXt", b"a\0b", 1)),
            says=DAMAGED),
    Hostile("palette indices beyond the palette",
            lambda: png(10, 10, _PALETTE, colour=3, packed=_BEYOND), size=(10, 10)),
    Hostile("no palette", lambda: png(colour=3, packed=_BEYOND), size=(10, 10)),
    Hostile("3 bits a sample", lambda: png(bits=3), says=DAMAGED),
    Hostile("64 bits a sample", lambda: png(bits=64), says=DAMAGED),
    Hostile("colour type 5", lambda: png(colour=5), says=DAMAGED),
    Hostile("zTXt bomb, 50 MB", lambda: png(10, 10, chunk(b"zTXt", b"a\0\0" + deflated(
        bytes(1000), 50_000))), says=DAMAGED),
    Hostile("iTXt bomb, 50 MB", lambda: png(10, 10, chunk(b"iTXt", b"a\0\1\0\0\0" + deflated(
        bytes(1000), 50_000))), says=DAMAGED),
    Hostile("iCCP bomb, 50 MB", lambda: png(10, 10, chunk(b"iCCP", b"a\0\0" + deflated(
        bytes(1000), 50_000))), says=DAMAGED),
    Hostile("300,000 texts", lambda: png(10, 10, _TEXT * 300_000), size=(10, 10)),
    Hostile("a length of 2³¹ − 1", lambda: png()[:33] + b"\x7f\xff\xff\xffIDATx", says=DAMAGED),
    Hostile("says it has 2³¹ − 1 frames", lambda: _many_frames(1, 2**31 - 1), size=(10, 10)),
    Hostile("100,000 frames", lambda: _many_frames(100_000, 100_000), size=(10, 10)),
    Hostile("EXIF that leads to itself", lambda: png(20, 5, chunk(b"eXIf", endless_exif(6)),
                                                     packed=deflated(bytes(61), 5)), size=(5, 20)),
    Hostile("a ZIP archive behind it", _in_a_zip, size=(10, 10)),
    Hostile("100 megapixels", lambda: plain(10_000, 10_000), size=(288, 288), heavy=True),
    Hostile("100 megapixels, transparent", lambda: plain(10_000, 10_000, colour=6),
            size=(288, 288), heavy=True),
    Hostile("100 megapixels, 16 bits a sample", lambda: plain(10_000, 10_000, bits=16),
            size=(288, 288), heavy=True),
    Hostile("100 megapixels, 16-bit grey", lambda: plain(10_000, 10_000, bits=16, colour=0),
            size=(288, 288), heavy=True),
    Hostile("100 megapixels, interlaced", lambda: plain(10_000, 10_000, interlace=1),
            size=(288, 288), heavy=True),
    Hostile("1 × 100,000,000", lambda: plain(1, 100_000_000), says=MEMORY, heavy=True),
    Hostile("100 MB of pixels behind 2,000,000 texts", lambda: png(10, 10, _TEXT * 2_000_000),
            size=(10, 10), heavy=True),
    *truncations("PNG", lambda: saved(noise(80, 60), "PNG")),
]  # fmt: skip
