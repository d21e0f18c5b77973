"""Distinct JPEGs as large as photos, and as heavy to decode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

QUALITY = 90
GRAIN = 6.0
"""Standard deviation of the noise, in levels: about a quarter of a byte for each pixel."""


def write_photos(
    folder: Path, count: int, originals: Path | None, size: tuple[int, int] = (1600, 1200)
) -> list[Path]:
    """``count`` JPEGs of that size in ``folder``, made where they are not there yet.

    They are pictures below ``originals`` enlarged, with grain; without such a folder smooth noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(originals.rglob("*.jpg")) if originals else []
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            path.write_bytes(
                _photo(found[number * 7 % len(found)] if found else None, number, size)
            )
    return paths


def _photo(original: Path | None, number: int, size: tuple[int, int]) -> bytes:
    random = np.random.default_rng(number)
    if original is None:
        smooth = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    else:
        smooth = Image.open(original).convert("RGB")
    large = np.asarray(smooth.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    grain = random.normal(0, GRAIN, (size[1], size[0], 1)).astype(np.float32)
    buffer = io.BytesIO()
    grainy = np.clip(large + grain, 0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
