"""The audit set: images drawn at random, never trained on, that every reported number stands on."""

from __future__ import annotations

import hashlib

from model.checks import share as checked_share
from model.errors import ArgumentError


def in_audit(leader_digest: str, share: float) -> bool:
    """Whether the images of one group of near-duplicates are in the audit set.

    ``leader_digest`` is the SHA-256 hex digest of the group's leader, so that near-duplicates are
    in it together or not at all. The first 53 bits of SHA-256 of ``"audit:" + leader_digest`` give
    a place in [0, 1), uniform over images; the group is in when its place is below ``share``. So
    the draw depends on nothing but the picture: the same in every project, process and order of
    arrival. Raising ``share`` keeps every image that was in before. The prefix keeps the draw apart
    from other draws by the same digest.

    ArgumentError when ``share`` is outside [0, 1] or ``leader_digest`` is empty.
    """
    limit = checked_share("share", share)
    return _place("audit:", leader_digest) < limit


def _place(prefix: str, digest: str) -> float:
    """A place in [0, 1), uniform over digests and independent between prefixes."""
    if not digest:
        raise ArgumentError("leader_digest is ''; the SHA-256 hex digest of an image is needed.")
    hashed = hashlib.sha256(f"{prefix}{digest.lower()}".encode()).digest()
    return (int.from_bytes(hashed[:8], "big") >> 11) / 2**53
