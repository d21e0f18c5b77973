from __future__ import annotations

import hashlib
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.audit import (
    audit_accuracy,
    audit_pace,
    audit_place,
    in_audit,
    in_blind,
    interleave,
)
from model.errors import ArgumentError
from model.metrics import effective_count, wilson_interval

DIGESTS = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(5000)]
digests = st.binary(min_size=1, max_size=8).map(lambda b: hashlib.sha256(b).hexdigest())
paces = st.fractions(min_value=0, max_value=1, max_denominator=60)
few = st.integers(0, 40)
OTHER = 1000


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
    order = int(hashlib.sha256(b"audit-place:" + digest.encode()).hexdigest()[:16], 16) / 2**64
    assert audit_place(digest) == audit_place(digest.upper()) == pytest.approx(order, abs=1e-15)


def test_the_draw_is_apart_from_the_digest_itself():
    # Images whose digest starts low are in no more than others.
    low = [digest for digest in DIGESTS if digest < "4"]
    held = sum(in_audit(digest, 0.1) for digest in low) / len(low)
    assert 0.06 < held < 0.14


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_places_are_uniform_among_those_that_are_in(share: float):
    places = np.sort([audit_place(digest) for digest in DIGESTS if in_audit(digest, share)])
    # Kolmogorov and Smirnov's distance from uniform, at 1 in 1,000.
    steps = np.arange(1, len(places) + 1) / len(places)
    assert np.abs(places - steps).max() < 1.95 / len(places) ** 0.5


def test_the_blind_draw_is_of_the_project_and_apart_from_the_audit_set():
    digest = DIGESTS[0]
    place = int(hashlib.sha256(b"blind:7:" + digest.encode()).hexdigest()[:16], 16) / 2**64
    assert in_blind(digest, 7, place + 1e-9)
    assert in_blind(digest.upper(), 7, place + 1e-9)
    assert not in_blind(digest, 7, place - 1e-9)
    blind = [{d for d in DIGESTS if in_blind(d, project, 0.2)} for project in (7, 8)]
    audit = {d for d in DIGESTS if in_audit(d, 0.2)}
    for one, other in ((blind[0], blind[1]), (blind[0], audit)):
        # 200 of 5,000 are in both of two independent draws of a fifth; 3.3 standard deviations.
        assert abs(len(one) - 1000) < 94
        assert abs(len(one & other) - 200) < 46
    with pytest.raises(ArgumentError):
        in_blind(digest, 7, 1.5)


@given(digests, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_who_is_in(digest: str, one: float, other: float):
    small, large = sorted([one, other])
    assert in_audit(digest, large) or not in_audit(digest, small)


@given(digests)
def test_none_and_all(digest: str):
    assert not in_audit(digest, 0.0)
    assert in_audit(digest, 1.0)
    assert 0 <= audit_place(digest) < 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_is_refused(share: float):
    with pytest.raises(ArgumentError, match="share is"):
        in_audit(DIGESTS[0], share)


def test_an_empty_digest_is_refused():
    with pytest.raises(ArgumentError, match="leader_digest is ''"):
        in_audit("", 0.1)
    with pytest.raises(ArgumentError, match="leader_digest is ''"):
        audit_place("")


def test_the_pace_falls_with_the_square_of_the_half_width():
    assert audit_pace(None, 0.1) == 0.1
    assert audit_pace(0.2, 0.1) == 0.1
    assert audit_pace(0.03, 0.1) == 0.1
    assert audit_pace(0.02, 0.1, target=0.025) == pytest.approx(0.064)
    assert audit_pace(0.015, 0.1) == pytest.approx(0.025)
    assert audit_pace(0.0, 0.1) == pytest.approx(0.025)
    assert audit_pace(0.01, 0.0) == 0


def test_four_times_the_labels_take_sixteen_times_as_many_images():
    # 80% right, 10% of what is served, until it is as much as the pace asks for.
    def asked(n: int, served: int) -> float:
        low, high = wilson_interval(0.8 * n, n)
        return served * audit_pace((high - low) / 2, 0.1)

    reached = 680  # where the half-width is 3 points
    assert asked(reached, 10 * reached) == pytest.approx(reached, rel=0.01)
    assert asked(2 * reached, 40 * reached) == pytest.approx(2 * reached, rel=0.01)
    assert asked(4 * reached, 160 * reached) == pytest.approx(4 * reached, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.1, 1.5), "share is 1.5"),
        ((-0.1, 0.1), "half_width is -0.1"),
        ((float("nan"), 0.1), "half_width is nan"),
        ((0.1, 0.1, 0.0), "target is 0.0"),
    ],
)
def test_a_pace_is_refused(arguments: tuple[float, ...], said: str):
    with pytest.raises(ArgumentError, match=said):
        audit_pace(*arguments)


def by_single_steps(audit: int, others: int, served: int, before: int, pace: Fraction) -> list[int]:
    """The order by its definition, one image at a time, in exact fractions."""
    order: list[int] = []
    done = 0
    while len(order) < audit + others:
        place = before + len(order) + 1
        turn = 2 * (served + done) + 1
        if pace == 0:
            due = False
        elif pace > Fraction(1, 2):
            due = place >= ceil(turn / (2 * pace))
        else:
            # The half-steps that are at this place, the last of which must be the turn or later.
            steps = [m for m in range(int(2 * pace * place) + 2) if ceil(m / (2 * pace)) == place]
            due = bool(steps) and max(steps) >= turn
        if done < audit and (due or len(order) - done == others):
            order.append(done)
            done += 1
        else:
            order.append(OTHER + len(order) - done)
    return order


@given(few, few, st.integers(0, 60), st.floats(0, 1), paces)
def test_interleaved_as_by_single_steps(
    audit: int, others: int, before: int, part: float, pace: Fraction
):
    served = round(part * before)
    found = interleave(
        np.arange(audit),
        OTHER + np.arange(others),
        audit_served=served,
        served=before,
        pace=float(pace),
    )
    assert found.tolist() == by_single_steps(audit, others, served, before, pace)


@given(st.integers(0, 40), st.integers(0, 200), st.floats(0, 1))
def test_every_prefix_has_its_share(audit: int, others: int, pace: float):
    order = interleave(
        np.arange(audit), OTHER + np.arange(others), audit_served=0, served=0, pace=pace
    )
    is_audit = order < OTHER
    # Until one of the two has run out.
    both = min(np.flatnonzero(part).max(initial=-1) for part in (is_audit, ~is_audit))
    counts = np.cumsum(is_audit)[: both + 1]
    assert (np.abs(counts - pace * np.arange(1, both + 2)) <= 1 + 1e-9).all()


@given(st.integers(1, 40), st.integers(0, 200), st.integers(0, 241), st.floats(0.001, 1))
def test_an_order_made_again_goes_on(audit: int, others: int, cut: int, pace: float):
    first = interleave(
        np.arange(audit), OTHER + np.arange(others), audit_served=0, served=0, pace=pace
    )
    head, tail = first[:cut], first[cut:]
    again = interleave(
        tail[tail < OTHER],
        tail[tail >= OTHER],
        audit_served=int((head < OTHER).sum()),
        served=len(head),
        pace=pace,
    )
    assert again.tolist() == tail.tolist()


@given(st.integers(1, 500), st.floats(0.02, 0.5))
def test_catching_up_is_no_bunch(served: int, pace: float):
    order = interleave(
        np.arange(1000), OTHER + np.arange(1000), audit_served=0, served=served, pace=pace
    )
    is_audit = order[: served + 200] < OTHER
    assert (np.diff(np.flatnonzero(is_audit)) >= int(1 / (2 * pace))).all()
    # Twice as fast as they fall due: what was missed in so many images is made up for in as many.
    lag = pace * (served + np.arange(1, served + 201)) - np.cumsum(is_audit)
    assert (np.abs(lag[served + int(1 / pace) :]) <= 1 + 1e-9).all()


def test_ahead_waits_for_the_others():
    order = interleave([50, 51], range(60), audit_served=5, served=20, pace=0.1)
    # The sixth is due at the 55th image of all.
    assert np.flatnonzero(order >= 50).tolist()[:1] == [34]


def test_interleaved_by_hand():
    order = interleave([50, 51, 52], range(7), audit_served=0, served=0, pace=0.25)
    assert order.tolist() == [0, 50, 1, 2, 3, 51, 4, 5, 6, 52]
    # Ten behind at one in ten: every fifth, where every tenth is due.
    order = interleave(range(50, 53), range(12), audit_served=0, served=100, pace=0.1)
    assert order.tolist() == [0, 1, 2, 3, 50, 4, 5, 6, 7, 51, 8, 9, 10, 11, 52]
    nothing = interleave([], [], audit_served=0, served=0, pace=0.1)
    assert (nothing.shape, nothing.dtype) == ((0,), np.int64)


def test_a_million_images_keep_their_share():
    order = interleave(
        np.arange(100_000), np.arange(100_000, 1_000_000), audit_served=0, served=0, pace=0.1
    )
    assert (np.sort(order) == np.arange(1_000_000)).all()
    assert np.flatnonzero(order < 100_000).tolist() == list(range(4, 1_000_000, 10))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pace": 1.1}, "pace is 1.1"),
        ({"audit_served": 3, "served": 2}, "audit_served is 3 of served 2"),
        ({"audit_served": -1}, "audit_served is -1"),
        ({"audit": [0.5]}, "audit has dtype"),
        ({"others": [[1]]}, "others has shape"),
    ],
)
def test_an_interleaving_is_refused(changed: dict[str, object], said: str):
    given_ = {"audit": [1], "others": [2], "audit_served": 0, "served": 0, "pace": 0.1} | changed
    with pytest.raises(ArgumentError, match=said):
        interleave(**given_)


def test_accuracy_of_labels_drawn_alone():
    alone = audit_accuracy([True] * 80 + [False] * 20)
    assert (alone.value, alone.effective, alone.groups, alone.n) == (0.8, 100, 100, 100)
    assert (alone.low, alone.high) == wilson_interval(80, 100)


def test_accuracy_of_groups_has_a_wider_interval():
    right, groups = [True] * 80 + [False] * 20, np.arange(100) // 2
    pairs = audit_accuracy(right, groups)
    # All pairs agree, so that they are as one label each.
    assert effective_count(right, groups) == 50
    assert (pairs.value, pairs.groups, pairs.n) == (0.8, 50, 100)
    assert (pairs.low, pairs.high) == wilson_interval(40, 50)
    assert pairs.half_width == pytest.approx((pairs.high - pairs.low) / 2)


def test_few_labels_tell_nothing():
    assert audit_accuracy([True] * 9).half_width is None
    assert audit_accuracy([True] * 10).half_width is not None
    same = audit_accuracy([True] * 100, [0] * 100)
    assert (same.value, same.low, same.n, same.effective) == (None, None, 100, 1)
    assert audit_accuracy([]).n == 0


def drawn_by_groups(generator: np.random.Generator, accuracy: float) -> tuple[np.ndarray, ...]:
    """100 labels: one image in two groups, and up to five in the others, mostly alike."""
    sizes = np.where(generator.random(100) < 0.5, 1, generator.integers(2, 6, 100))
    groups = np.repeat(np.arange(100), sizes)[:100]
    led = generator.random(100) < accuracy
    own = generator.random(100) < accuracy
    return np.where(generator.random(100) < 0.9, led[groups], own), groups


@pytest.mark.parametrize("accuracy", [0.6, 0.85, 0.95])
def test_the_interval_holds_the_truth_19_times_in_20(accuracy: float):
    generator = np.random.default_rng(3)
    held, blind = 0, 0
    for _ in range(1000):
        right, groups = drawn_by_groups(generator, accuracy)
        found, alone = audit_accuracy(right, groups), audit_accuracy(right)
        held += found.low <= accuracy <= found.high
        blind += alone.low <= accuracy <= alone.high
    assert 925 <= held <= 980
    # As if each had been drawn alone, it would be wrong far more often.
    assert blind < 880
