from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.audit import in_audit
from model.errors import ArgumentError

DIGESTS = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(5000)]
digests = st.binary(min_size=1, max_size=8).map(lambda b: hashlib.sha256(b).hexdigest())


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_share_of_images_is_in(share: float):
    held = sum(in_audit(digest, share) for digest in DIGESTS)
    spread = (5000 * share * (1 - share)) ** 0.5
    assert abs(held - 5000 * share) < 3.3 * spread


def test_the_draw_never_changes():
    digest = DIGESTS[0]
    place = int(hashlib.sha256(b"audit:" + digest.encode()).hexdigest()[:16], 16) / 2**64
    assert in_audit(digest, place + 1e-9)
    assert not in_audit(digest, place - 1e-9)
    assert in_audit(digest.upper(), place + 1e-9)


def test_the_draw_is_apart_from_the_digest_itself():
    # Images whose digest starts low are in no more than others.
    low = [digest for digest in DIGESTS if digest < "4"]
    held = sum(in_audit(digest, 0.1) for digest in low) / len(low)
    assert 0.06 < held < 0.14


@given(digests, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_who_is_in(digest: str, one: float, other: float):
    small, large = sorted([one, other])
    assert in_audit(digest, large) or not in_audit(digest, small)


@given(digests)
def test_none_and_all(digest: str):
    assert not in_audit(digest, 0.0)
    assert in_audit(digest, 1.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_is_refused(share: float):
    with pytest.raises(ArgumentError, match="share is"):
        in_audit(DIGESTS[0], share)


def test_an_empty_digest_is_refused():
    with pytest.raises(ArgumentError, match="digest is ''"):
        in_audit("", 0.1)
