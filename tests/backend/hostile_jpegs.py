"""Hostile JPEG files."""

from __future__ import annotations

import struct

from PIL import Image

from tests.backend.hostile_image import (
    DAMAGED,
    TIME,
    TOO_LARGE,
    Hostile,
    endless_exif,
    noise,
    saved,
    truncations,
)

_DQT = b"\0" + bytes([1] * 64)
# One code each: 0 for a difference of zero, and 0 for a run of 32,767 blocks and more without any.
_NOTHING = bytes([1] + [0] * 15 + [0])
_RUN = bytes([1] + [0] * 15 + [0xE0])


def segment(marker: int, content: bytes) -> bytes:
    """A marker with its content."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(*segments: bytes) -> bytes:
    """A sound picture of 32 × 24 with more segments behind its start."""
    whole = saved(Image.new("RGB", (32, 24), (200, 30, 60)), "JPEG")
    return whole[:2] + b"".join(segments) + whole[2:]


def exif(content: bytes) -> bytes:
    """A segment of EXIF."""
    return segment(0xE1, b"Exif\0\0" + content)


def sized(width: int, height: int, bits: int = 8) -> bytes:
    """A sound picture whose header claims another size."""
    whole = bytearray(saved(noise(32, 24), "JPEG"))
    place = whole.index(b"\xff\xc0")
    whole[place + 4 : place + 9] = struct.pack(">BHH", bits, height, width)
    return bytes(whole)


def scans(side: int, count: int) -> bytes:
    """A grey progressive picture whose every pixel is gone over ``count`` times: a few bytes each.

    ``side`` is a multiple of 8.
    """
    blocks = (side // 8) ** 2
    head = [
        b"\xff\xd8",
        segment(0xDB, _DQT),
        segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"),
        segment(0xC4, b"\x00" + _NOTHING),
        segment(0xC4, b"\x10" + _RUN),
        segment(0xDA, b"\1\1\0\0\0\0"),
        bytes(-(-blocks // 8)),
    ]
    # 0 and fourteen ones, for a run of 32,767 blocks; a byte of ones has a zero behind it.
    runs = "0" + "1" * 14
    bits = runs * -(-blocks // 32_767)
    bits += "1" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    again = segment(0xDA, b"\1\1\0\1\x3f\0") + packed
    return b"".join(head) + again * count + b"\xff\xd9"


def _frames(told: int) -> bytes:
    """Two pictures in one file, whose index names ``told``."""
    whole = bytearray(
        saved(noise(32, 24), "MPO", save_all=True, append_images=[noise(32, 24, seed=1)])
    )
    place = whole.index(struct.pack("<HHI", 0xB001, 4, 1))
    whole[place + 8 : place + 12] = struct.pack("<I", told)
    return bytes(whole)


_SCRIPT = b"*/=1;alert(document.cookie)/*<script>alert(1)</script>"
_ICC = b"ICC_PROFILE\0"

JPEGS = [
    Hostile("header of 65,500 × 65,500", lambda: sized(65_500, 65_500), says=TOO_LARGE),
    Hostile("header of 9,999 × 9,999, pixels of 32 × 24", lambda: sized(9999, 9999),
            size=(288, 288)),
    Hostile("width 0", lambda: sized(0, 24), says=DAMAGED),
    Hostile("height 0", lambda: sized(32, 0), says=DAMAGED),
    Hostile("12 bits a sample", lambda: sized(32, 24, bits=12), says=DAMAGED),
    Hostile("scans without end, 10,000 × 10,000", lambda: scans(9992, 100_000), says=TIME,
            heavy=True),
    Hostile("scans without end, 4,000 × 4,000", lambda: scans(4000, 400_000), says=TIME),
    Hostile("200 scans", lambda: scans(400, 200), size=(288, 288)),
    Hostile("4 MB of EXIF", lambda: with_segments(*[exif(bytes(65_000))] * 60), size=(32, 24)),
    Hostile("20 MB of EXIF", lambda: with_segments(*[exif(bytes(65_000))] * 310), size=(32, 24),
            heavy=True),
    Hostile("40 MB of colour profile",
            lambda: with_segments(*[segment(0xE2, _ICC + bytes([n % 255 + 1, 255]) + bytes(65_000))
                                    for n in range(600)]), size=(32, 24)),
    Hostile("EXIF that leads to itself", lambda: with_segments(exif(endless_exif(6))),
            size=(24, 32)),
    Hostile("orientation 99", lambda: with_segments(exif(endless_exif(99))), size=(32, 24)),
    Hostile("EXIF of random bytes",
            lambda: with_segments(exif(noise(200, 80).tobytes()[:60_000])), size=(32, 24)),
    Hostile("EXIF that says it has 65,535 entries",
            lambda: with_segments(exif(b"II*\0\x08\0\0\0\xff\xff" + b"\x12\1\3\0" * 9000)),
            size=(32, 24)),
    Hostile("a script in a comment", lambda: with_segments(segment(0xFE, _SCRIPT)), size=(32, 24)),
    Hostile("CMYK", lambda: saved(Image.new("CMYK", (40, 30)), "JPEG"), size=(40, 30)),
    Hostile("says it has 2³¹ − 1 pictures", lambda: _frames(2**31 - 1), size=(32, 24)),
    Hostile("no tables", lambda: b"\xff\xd8" + segment(0xC0, struct.pack(
        ">BHHB", 8, 24, 32, 1) + b"\1\x11\0") + segment(0xDA, b"\1\1\0\0\x3f\0") + bytes(99),
        says=DAMAGED),
    Hostile("100 megapixels", lambda: saved(Image.new("RGB", (10_000, 10_000)), "JPEG"),
            size=(288, 288), heavy=True),
    Hostile("100 megapixels, progressive",
            lambda: saved(Image.new("RGB", (10_000, 10_000)), "JPEG", progressive=True),
            size=(288, 288), heavy=True),
    *truncations("JPEG", lambda: saved(noise(80, 60), "JPEG")),
    *truncations("progressive JPEG", lambda: saved(noise(80, 60), "JPEG", progressive=True)),
]  # fmt: skip
