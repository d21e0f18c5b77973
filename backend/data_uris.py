"""The bytes in a ``data:`` URI."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from backend.errors import ImageError


def read_data_uri(uri: str, max_bytes: int) -> bytes:
    """The bytes in a ``data:`` URI (RFC 2397), at most ``max_bytes``; else :class:`ImageError`."""
    head, comma, payload = uri.partition(",")
    if not comma:
        raise ImageError("It has no comma, so no data.", retry=False)
    # Three characters for a byte at most, and a third more in base64.
    if len(payload) > 4 * max_bytes + 64:
        raise _too_large(max_bytes)
    data = unquote_to_bytes(payload)
    if head.rstrip().lower().endswith(";base64"):
        data = _from_base64(data)
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _from_base64(text: bytes) -> bytes:
    text = b"".join(text.split()).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("Its base64 is malformed.", retry=False) from None


def _too_large(max_bytes: int) -> ImageError:
    return ImageError(
        f"The file is larger than {max_bytes:,} bytes.",
        retry=False,
        mend="TIEBREAK_IMAGE_MAX_BYTES is the limit.",
        cause="too large",
    )
