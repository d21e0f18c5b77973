"""Hostile files of the other formats, and what is no image at all."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile

from PIL import Image

from tests.backend.hostile_image import (
    DAMAGED,
    MEMORY,
    TOO_LARGE,
    Hostile,
    noise,
    saved,
    truncations,
)
from tests.backend.hostile_pngs import png

# ---- GIF

_FRAME = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"


def gif(width: int, height: int, frames: bytes) -> bytes:
    """A screen with two colours."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frames + b";"


def frame_of(width: int, height: int) -> bytes:
    """A frame of that size whose pixels end at once."""
    return b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2\x44\1\0"


def _script() -> bytes:
    return b"GIF89a/*" + b"\x01\0\x80\0\0" + bytes(6) + b"*/=1;alert(1)//" + _FRAME + b";"


GIFS = [
    Hostile("screen of 65,535 × 65,535", lambda: gif(65_535, 65_535, _FRAME), says=TOO_LARGE),
    Hostile("frame of 65,535 × 65,535", lambda: gif(10, 10, frame_of(65_535, 65_535)),
            says=TOO_LARGE),
    Hostile("a million frames", lambda: gif(1, 1, _FRAME * 1_000_000), size=(1, 1)),
    Hostile("no frame", lambda: gif(10, 10, b""), says=DAMAGED),
    Hostile("width 0", lambda: gif(0, 10, frame_of(0, 10)), says=DAMAGED),
    Hostile("a script that is a GIF", _script, says=DAMAGED),
    Hostile("comments of 20 MB", lambda: gif(1, 1, b"\x21\xfe" + (b"\xff" + bytes(255)) * 80_000
                                             + b"\0" + _FRAME), size=(1, 1)),
    Hostile("16 megapixels of one colour", lambda: saved(Image.new("P", (4000, 4000)), "GIF"),
            size=(288, 288)),
    Hostile("100 megapixels", lambda: saved(Image.new("P", (10_000, 10_000)), "GIF"),
            size=(288, 288), heavy=True),
    *truncations("GIF", lambda: saved(noise(80, 60), "GIF")),
]  # fmt: skip

# ---- BMP


def bmp(width: int, height: int, *, bits: int = 24, packing: int = 0, pixels: bytes = b"") -> bytes:
    """A BMP; its size as given, which may be negative."""
    palette = bytes(1024) if bits == 8 else b""
    start = 54 + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    head += struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, packing, len(pixels), 0, 0, 0, 0
    )
    return head + palette + pixels


_ROW = b"\xff\0" * 15 + b"\xaf\0" + b"\0\0"  # 4,000 pixels and the end of the line

BMPS = [
    Hostile("header of 2³¹ − 1 squared", lambda: bmp(2**31 - 1, 2**31 - 1), says=TOO_LARGE),
    Hostile("negative height, which means top down", lambda: bmp(8, -8, pixels=bytes(192)),
            size=(8, 8)),
    Hostile("negative width", lambda: bmp(-8, 8, pixels=bytes(192)), says=TOO_LARGE),
    Hostile("height −2³¹", lambda: bmp(8, -(2**31)), says=f"{TOO_LARGE}|{DAMAGED}"),
    Hostile("5 bits a pixel", lambda: bmp(8, 8, bits=5), says=DAMAGED),
    Hostile("run-length bomb, 16 megapixels",
            lambda: bmp(4000, 4000, bits=8, packing=1, pixels=_ROW * 4000 + b"\0\1"),
            size=(288, 288)),
    Hostile("run lengths that lead away",
            lambda: bmp(8, 8, bits=8, packing=1, pixels=b"\0\2\xff\xff" * 50_000),
            size=(8, 8)),
    *truncations("BMP", lambda: saved(noise(80, 60), "BMP")),
]  # fmt: skip

# ---- WebP, AVIF, JPEG 2000


def riff(*chunks: bytes) -> bytes:
    """A WebP of chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk, padded."""
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _screen(width: int, height: int) -> bytes:
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return webp_chunk(b"VP8X", b"\x02\0\0\0" + size)


def _animated(count: int) -> bytes:
    one = saved(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    frame = webp_chunk(b"ANMF", bytes(6) + b"\1\0\0\1\0\0" + b"\x0a\0\0\0" + one)
    return riff(_screen(2, 2), webp_chunk(b"ANIM", bytes(6)), frame * count)


def _patched(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    whole, place = bytearray(data), data.index(mark) + len(mark) + offset
    whole[place : place + len(value)] = value
    return bytes(whole)


def _avif() -> bytes:
    return saved(noise(32, 24), "AVIF")


def _stream() -> bytes:
    return saved(noise(32, 24), "JPEG2000", no_jp2=True)


def siz(width: int, height: int, tile: int) -> bytes:
    """A JPEG 2000 stream that claims that size, in square tiles."""
    sizes = struct.pack(">IIIIII", width, height, 0, 0, tile, tile)
    return _patched(_stream(), b"\xff\x51", 4, sizes)


NEWER = [
    Hostile("WebP: 16,383 × 16,383 in the header", lambda: riff(_screen(16_383, 16_383), webp_chunk(
        b"ANIM", bytes(6))), says=f"{TOO_LARGE}|{DAMAGED}"),
    Hostile("WebP: 50,000 frames", lambda: _animated(50_000), size=(2, 2)),
    Hostile("WebP: chunks longer than the file", lambda: _patched(
        saved(noise(32, 24), "WEBP"), b"WEBPVP8 ", 0, b"\xff\xff\xff\x7f"), says=DAMAGED),
    Hostile("WebP: 100 megapixels", lambda: saved(
        Image.new("RGB", (10_000, 10_000)), "WEBP", lossless=True, quality=0, method=0),
        says=MEMORY, heavy=True),
    Hostile("AVIF: 65,535 × 65,535 in the header", lambda: _patched(
        _avif(), b"ispe", 4, struct.pack(">II", 65_535, 65_535)), says=f"{TOO_LARGE}|{DAMAGED}"),
    Hostile("AVIF: another size in the header", lambda: _patched(
        _avif(), b"ispe", 4, struct.pack(">II", 3200, 2400)), size=(384, 288)),
    Hostile("AVIF: boxes without end", lambda: _avif()[:24] + b"\0\0\0\x08free" * 200_000,
            says=DAMAGED),
    Hostile("AVIF: 100 megapixels", lambda: saved(
        Image.new("RGB", (10_000, 10_000)), "AVIF", speed=10), says=MEMORY, heavy=True),
    Hostile("JPEG 2000: 2³¹ − 1 squared", lambda: siz(2**31 - 1, 2**31 - 1, 2**31 - 1),
            says=TOO_LARGE),
    Hostile("JPEG 2000: 9,999 × 9,999 in tiles of 1 × 1", lambda: siz(9999, 9999, 1),
            says=f"{DAMAGED}|{MEMORY}"),
    Hostile("JPEG 2000: 9,999 × 9,999, pixels of 32 × 24", lambda: siz(9999, 9999, 9999),
            says=f"{DAMAGED}|{MEMORY}"),
    Hostile("JPEG 2000: 16,384 colours", lambda: _patched(
        _stream(), b"\xff\x51", 36, struct.pack(">H", 16_384)), says=DAMAGED),
    *truncations("WebP", lambda: saved(noise(80, 60), "WEBP")),
    *truncations("AVIF", lambda: saved(noise(80, 60), "AVIF")),
    *truncations("JPEG 2000", lambda: saved(noise(80, 60), "JPEG2000")),
]  # fmt: skip

# ---- no image


def zipped(name: str, content: bytes) -> bytes:
    """A ZIP archive of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("../../etc/cron.d/a.png")
        entry.size = len(png())
        archive.addfile(entry, io.BytesIO(png()))
    return buffer.getvalue()


def _nested() -> bytes:
    data = png()
    for depth in range(10):
        data = zipped(f"{depth}.zip", data)
    return data


_LAUGHS = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))
_SVG = (
    b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a0 "ha"><!ENTITY x SYSTEM "file:///etc/passwd">'
    + _LAUGHS
    + b']><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><text>&x;&a9;</text></svg>'
)
UNKNOWN = "not an image of a known format"

NO_IMAGES = [
    Hostile("no bytes", lambda: b"", says="The file is empty"),
    Hostile("one byte", lambda: b"\xff", says=UNKNOWN),
    Hostile("HTML", lambda: b"<!doctype html><script>alert(1)</script>", says="a web page"),
    Hostile("JSON", lambda: b'{"detail": "Not found."}', says="a web page"),
    Hostile("JSON, 100,000 deep", lambda: b"[" * 100_000, says="a web page"),
    Hostile("SVG with a script, a file and a billion laughs", lambda: _SVG, says="an SVG drawing"),
    Hostile("PDF", lambda: b"%PDF-1.7\n1 0 obj<</JS(app.alert(1))>>", says="PDF"),
    Hostile("PostScript", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd)(r)file", says=UNKNOWN),
    Hostile("a ZIP of an image", lambda: zipped("a.png", png()), says="ZIP"),
    Hostile("ZIPs in ZIPs", _nested, says="ZIP"),
    Hostile("ZIP bomb, 100 MB", lambda: zipped("a", bytes(100_000_000)), says="ZIP"),
    Hostile("a gzip of an image", lambda: gzip.compress(png()), says="gzip"),
    Hostile("a tar of an image that leads away", _tar, says=UNKNOWN),
    Hostile("a video", lambda: b"\0\0\0\x18ftypisom" + bytes(1000), says="video"),
    Hostile("an icon", lambda: saved(noise(16, 16), "ICO"), says="icon"),
    Hostile("a Photoshop file", lambda: b"8BPS" + bytes(1000), says="Photoshop"),
    Hostile("a program", lambda: b"\x7fELF\2\1\1" + bytes(1000), says=UNKNOWN),
    Hostile("a pickle", lambda: b"\x80\4cposix\nsystem\n(S'id'\ntR.", says=UNKNOWN),
    Hostile("random bytes", lambda: noise(100, 100).tobytes(), says=UNKNOWN),
    *(
        Hostile(f"only the first bytes of {name}", lambda start=start: start, says=says)  # type: ignore[misc]
        for name, start, says in (
            ("a PNG", b"\x89PNG\r\n\x1a\n", "cut off"),
            ("a JPEG", b"\xff\xd8\xff", DAMAGED),
            ("a GIF", b"GIF89a", DAMAGED),
            ("a TIFF", b"II*\0", DAMAGED),
            ("a WebP", b"RIFF\xff\xff\xff\xffWEBPVP8 ", "cut off"),
            ("a BMP", b"BM", DAMAGED),
        )
    ),
]  # fmt: skip
