from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.audit import audit_accuracy, audit_pace, audit_place, in_audit, interleave
from model.errors import ArgumentError
from model.metrics import wilson_interval

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


def test_places_are_apart_from_the_draw():
    inside = [audit_place(digest) for digest in DIGESTS if in_audit(digest, 0.1)]
    assert 0.45 < np.mean(inside) < 0.55
    assert np.ptp(inside) > 0.97


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


def test_the_pace_falls_with_the_square_of_the_half_width():
    assert audit_pace(None, 0.1) == 0.1
    assert audit_pace(0.2, 0.1) == 0.1
    assert audit_pace(0.03, 0.1) == 0.1
    assert audit_pace(0.02, 0.1, target=0.025) == pytest.approx(0.064)
    assert audit_pace(0.001, 0.1) == 0.025


def test_interleaved_by_hand():
    order = interleave([50, 51, 52], range(7), audit_served=0, served=0, pace=0.25)
    assert order.tolist() == [0, 50, 1, 2, 3, 51, 4, 5, 6, 52]


def test_groups_count_less():
    alone = audit_accuracy([True] * 80 + [False] * 20)
    assert (alone.value, alone.effective, alone.groups) == (0.8, 100, 100)
    assert (alone.low, alone.high) == wilson_interval(80, 100)
    pairs = audit_accuracy([True] * 80 + [False] * 20, np.arange(100) // 2)
    assert (pairs.low, pairs.high) == wilson_interval(40, 50)
    assert pairs.half_width == pytest.approx((pairs.high - pairs.low) / 2)
    assert audit_accuracy([True] * 9).half_width is None
