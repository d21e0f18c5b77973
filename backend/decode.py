"""Bytes from anywhere become one RGB picture, or an :class:`ImageError` that says why not."""

from __future__ import annotations

import io
import struct

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from backend.errors import ImageError, NotEnoughMemory
from backend.flatten import reduced_rgb

LONGEST = 8
"""The longer side of a result is at most this many times the wanted shorter side."""
SPARE = 1.25
"""A JPEG that is decoded to at most this many times its wanted size stays so: to resize it costs as
much as a third of decoding it, and loses more than the room saves."""

_PLUGINS = (
    JpegImagePlugin.JpegImageFile,  # and MPO
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    AvifImagePlugin.AvifImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KINDS = (
    (b"%PDF", 0, "a PDF"),
    (b"8BPS", 0, "a Photoshop file"),
    (b"\x00\x00\x01\x00", 0, "an icon"),
    (b"PK\x03\x04", 0, "a ZIP archive"),
    (b"\x1f\x8b", 0, "a gzip archive"),
    (b"DICM", 128, "a DICOM file"),
    (b"ftypheic", 4, "a HEIC picture"),
    (b"ftypheix", 4, "a HEIC picture"),
    (b"ftypmif1", 4, "a HEIC picture"),
    (b"ftyp", 4, "a video"),
    (b"\x1aE\xdf\xa3", 0, "a video"),
    (b"version https://git-lfs", 0, "a Git LFS pointer"),
)
_PIXELS_MEND = "TIEBREAK_IMAGE_MAX_PIXELS is the limit."
_ALLOWED = "Allowed are JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and JPEG 2000."


def decode_image(data: bytes, *, max_pixels: int, side: int) -> Image.Image:
    """``data`` as an RGB picture whose shorter side is at most ``side`` pixels.

    Never enlarged; turned as EXIF says; of several frames the first; transparency on white;
    the longer side at most ``8 * side``; of a JPEG both sides at most :data:`SPARE` times that.
    Grey with 16 bits is divided by 257, as browsers show it; 32-bit integers and floats have no
    such range, and their own smallest to largest value become 0 to 255. ``max_pixels`` bounds
    width times height in the file's header.

    Raises :class:`ImageError` with ``retry=False``, and nothing else, for anything that cannot be
    decoded.
    """
    try:
        with _open(data) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"The image has {width} × {height} pixels, more than {max_pixels:,}.",
                    retry=False,
                    mend=_PIXELS_MEND,
                )
            size = target_size(width, height, side)
            if image.format in ("JPEG", "MPO"):
                image.draft(None, size)  # the decoder skips what would be thrown away
                if max(image.size[0] / size[0], image.size[1] / size[1]) <= SPARE:
                    size = image.size
            image.load()
            if image.format == "TIFF":  # turned while loading
                size = target_size(*image.size, side)
            return _finished(image, size, _TURNS.get(_orientation(image)))
    except ImageError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise _damaged(data, error) from None


def target_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Size in pixels that a ``width`` × ``height`` picture is reduced to."""
    scale = min(1.0, side / min(width, height), LONGEST * side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def fits_in(width: int, height: int, side: int) -> bool:
    """Whether a picture that was decoded for ``side`` may be that large."""
    return min(width, height) <= SPARE * side and max(width, height) <= SPARE * LONGEST * side


def _open(data: bytes) -> ImageFile.ImageFile:
    # Not Image.open: its limit of pixels is global and warns; ours is a setting.
    for plugin in _PLUGINS:
        factory, accept = Image.OPEN[plugin.format]
        if accept is not None and accept(data[:16]) is True:
            return factory(io.BytesIO(data), "")
    raise ImageError(what_it_is(data), retry=False, mend=_ALLOWED)


def _finished(
    image: Image.Image, size: tuple[int, int], turn: Image.Transpose | None
) -> Image.Image:
    picture = reduced_rgb(image, size)
    if turn is not None:
        picture = picture.transpose(turn)
    if picture is image:
        picture = picture.copy()  # its file is closed behind it
    picture.info.clear()
    return picture


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not make the picture unusable
        return 1


def what_it_is(data: bytes) -> str:
    """A sentence that says what ``data`` is, when it is no image."""
    if not data:
        return "The file is empty."
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "It is a web page, not an image."
    if b"<svg" in start:
        return "It is an SVG drawing, not an image of pixels."
    if start.startswith(b"<"):
        return "It is an answer in XML, not an image."
    if start.startswith((b"{", b"[")):
        return "It is a web page, not an image (an answer in JSON)."
    for signature, offset, kind in _KINDS:
        if data[offset : offset + len(signature)] == signature:
            return f"It is {kind}, not an image that can be read."
    return "It is not an image of a known format."


def _damaged(data: bytes, error: Exception) -> ImageError:
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return not_enough_memory()
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("The image has too many pixels.", retry=False, mend=_PIXELS_MEND)
    if _is_cut_off(data, error):
        return ImageError("The image file is cut off.", retry=False)
    return ImageError("The image file is damaged or cut off.", retry=False)


def not_enough_memory() -> ImageError:
    """The error of an image that takes more memory than there may be."""
    return NotEnoughMemory(
        "There is not enough memory to decode the image.",
        retry=False,
        mend="TIEBREAK_IMAGE_DECODE_MEMORY is the limit.",
    )


def _is_cut_off(data: bytes, error: Exception) -> bool:
    if data.startswith(b"RIFF"):
        return len(data) < 12 or struct.unpack("<I", data[4:8])[0] + 8 > len(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return (
        isinstance(error, (EOFError, struct.error, IndexError)) or "truncated" in str(error).lower()
    )
