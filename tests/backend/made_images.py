"""Small pictures, and files of them in every format that is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from backend.decode import decode_image

MILLION = 1_000_000


def decode(data: bytes, side: int = 64, max_pixels: int = MILLION) -> np.ndarray:
    """The picture of a file, as numbers."""
    picture = decode_image(data, max_pixels=max_pixels, side=side)
    assert picture.mode == "RGB"
    assert type(picture) is Image.Image
    return np.asarray(picture)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG put together by hand."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of noise."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def turned() -> Image.Exif:
    """Metadata that says that the picture lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


SMALL = noise(9, 7, seed=1)


EXIF = turned()


VALID = {
    **{name: saved(SMALL, name) for name in ("PNG", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF")},
    "JPEG": saved(SMALL, "JPEG", exif=EXIF),
    "PROGRESSIVE": saved(SMALL, "JPEG", progressive=True),
    "WEBP": saved(SMALL, "WEBP", exif=EXIF),
    "LZW": saved(SMALL, "TIFF", compression="tiff_lzw"),
    "PALETTE": saved(SMALL.convert("P"), "PNG", transparency=3),
    "SIXTEEN": saved(Image.fromarray(np.arange(63, dtype=np.uint16).reshape(7, 9)), "TIFF"),
}
