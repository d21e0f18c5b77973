"""A picture in any colour mode becomes an RGB one, without holding a large one twice.

A picture of 100 million pixels takes 400 MB. So one that is to become small is turned into RGB
and reduced tile by tile; the result is the same as at once, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from backend.errors import ImageError

TILE = 1024
"""Side of a tile in pixels, about."""

_GAP = 2.0
_TRANSPARENT = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_KEYED = frozenset({"1", "L", "P", "RGB"})  # may name one colour, or palette entries, transparent
_PLAIN = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_STRETCHED = frozenset({"I", "F"})

Range = tuple[float, float]
Box = tuple[int, int, int, int]


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` in RGB, transparency on white; the very same where it is so already.

    Raises :class:`ImageError` for a colour mode that has no plain meaning, such as LAB.
    """
    return _to_rgb(image, _range(image))


def reduced_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """``image`` as :func:`to_rgb` makes it, resized to ``size`` (width, height) by Lanczos.

    Whole pixels are averaged first where more than two of them remain for each one wanted.
    """
    wide, high = image.size
    across, down = (int(all_ / few / _GAP) or 1 for all_, few in zip(image.size, size, strict=True))
    if across * down == 1:
        picture = to_rgb(image)
        return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
    values = _range(image)
    small = Image.new("RGB", (-(-wide // across), -(-high // down)))
    for box in _tiles(image.size, across, down):
        tile = _to_rgb(image.crop(box), values).reduce((across, down))
        small.paste(tile, (box[0] // across, box[1] // down))
    kept = (0, 0, wide / across, high / down)
    return small.resize(size, Image.Resampling.LANCZOS, box=kept)


def _tiles(size: tuple[int, int], across: int = 1, down: int = 1) -> Iterator[Box]:
    """Boxes that cover ``size``, with sides that are multiples of ``across`` and ``down``."""
    wide, high = (step * max(1, TILE // step) for step in (across, down))
    for top in range(0, size[1], high):
        for left in range(0, size[0], wide):
            yield left, top, min(left + wide, size[0]), min(top + high, size[1])


def _to_rgb(image: Image.Image, values: Range) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _TRANSPARENT or ("transparency" in image.info and image.mode in _KEYED):
        straight = image.convert("LA") if image.mode == "La" else image
        whole = straight.convert("RGBA")
        picture = Image.new("RGB", whole.size, (255, 255, 255))
        picture.paste(whole, mask=whole.getchannel("A"))
        return picture
    if image.mode in _PLAIN:
        return image.convert("RGB")
    if image.mode.startswith("I;16"):
        numbers = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((numbers + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in _STRETCHED:
        return Image.fromarray(_stretched(np.asarray(image), *values)).convert("RGB")
    raise ImageError(
        f"The image has the colour mode {image.mode}.",
        retry=False,
        mend="Save it as RGB or grey.",
    )


def _range(image: Image.Image) -> Range:
    """Smallest and largest finite value of integers or floats, which are stretched between them."""
    low, high = np.inf, -np.inf
    for box in _tiles(image.size) if image.mode in _STRETCHED else ():
        numbers = np.asarray(image.crop(box)).astype(np.float64)
        finite = np.isfinite(numbers)
        low = min(low, float(numbers.min(where=finite, initial=np.inf)))
        high = max(high, float(numbers.max(where=finite, initial=-np.inf)))
    return low, high


def _stretched(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """(h, w) numbers -> (h, w) uint8: ``low`` to 0, ``high`` to 255; not-a-number to 0."""
    finite = np.isfinite(values)
    numbers = np.where(finite, values, 0).astype(np.float64)
    if not low < high:
        return np.clip(numbers, 0, 255).astype(np.uint8)
    scaled = (numbers - low) * (255 / (high - low))
    return np.where(finite, np.rint(scaled), 0).astype(np.uint8)
