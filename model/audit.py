"""Which images are kept out of training, so that what is measured on them is honest."""

from __future__ import annotations

import hashlib

from model.checks import share as checked_share
from model.errors import ArgumentError


def in_holdout(digest: str, share: float) -> bool:
    """Whether the image with this SHA-256 hex digest is never trained on.

    The first 53 bits of SHA-256 of ``"holdout:" + digest`` give a place in [0, 1), uniform over
    images; the image is held out when its place is below ``share``. So the draw depends on
    nothing but the picture: the same in every project, process and order of arrival. Raising
    ``share`` keeps every image that was held out before. The prefix keeps the draw apart from
    other draws by the same digest.

    ArgumentError when ``share`` is outside [0, 1] or ``digest`` is empty.
    """
    limit = checked_share("share", share)
    if not digest:
        raise ArgumentError("digest is ''; the SHA-256 hex digest of an image is needed.")
    hashed = hashlib.sha256(b"holdout:" + digest.lower().encode()).digest()
    return (int.from_bytes(hashed[:8], "big") >> 11) / 2**53 < limit
