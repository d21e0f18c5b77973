from __future__ import annotations

import pytest

from backend.rate_limits import MOST_ADDRESSES, PROVEN_SECONDS, FailedLogins, RequestRate, caller


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_requests_are_counted_by_the_minute_and_by_address() -> None:
    clock = Clock()
    rate = RequestRate(2, clock)
    assert [rate.count("a") for _ in range(2)] == [0, 0]
    clock.now += 20.5
    assert rate.count("a") == 40
    assert rate.count("b") == 0
    clock.now += 39.4
    assert rate.count("a") == 1
    clock.now += 0.1
    assert [rate.count("a") for _ in range(3)] == [0, 0, 60]


def test_what_is_kept_is_bounded() -> None:
    rate, failures = RequestRate(1), FailedLogins(2)
    for n in range(MOST_ADDRESSES + 50):
        rate.count(str(n))
        failures.right(str(n))
        failures.wrong(str(n), "x")
    assert len(rate._windows._windows) == MOST_ADDRESSES
    assert len(failures._windows._windows) == len(failures._proven) == MOST_ADDRESSES
    for n in range(100):
        failures.wrong("10.0.0.1", str(n))
    assert len(failures._windows._windows["10.0.0.1"].different) == 3


def test_the_same_wrong_one_tells_to_wait_and_holds_nobody_off() -> None:
    failures = FailedLogins(3, Clock())
    assert [failures.wrong("10.0.0.1", "old") for _ in range(5)] == [0, 0, 0, 60, 60]
    assert failures.held_off("10.0.0.1") == 0


def test_different_wrong_ones_hold_off_until_the_minute_is_over() -> None:
    clock = Clock()
    failures = FailedLogins(3, clock)
    for n in range(3):
        failures.wrong("10.0.0.1", str(n))
    assert failures.held_off("10.0.0.1") == 0
    failures.wrong("10.0.0.1", "3")
    clock.now += 30
    assert failures.held_off("10.0.0.1") == 30
    assert failures.held_off("10.0.0.2") == 0
    clock.now += 30
    assert failures.held_off("10.0.0.1") == 0


def test_who_has_logged_in_within_a_day_is_not_held_off() -> None:
    clock = Clock()
    failures = FailedLogins(1, clock)
    failures.right("10.0.0.1")

    def guess() -> int:
        for n in range(9):
            failures.wrong("10.0.0.1", str(n))
        return failures.held_off("10.0.0.1")

    assert guess() == 0
    clock.now += PROVEN_SECONDS
    assert guess() == 60


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("", "unknown"),
        (None, "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_who_counts_as_one_caller(address: str | None, counted: str) -> None:
    assert caller(address) == counted
    assert FailedLogins(1).held_off(caller(address)) == 0
    failures = FailedLogins(1)
    for n in range(5):
        failures.wrong(counted, str(n))
    assert (failures.held_off(counted) == 0) == (counted in ("127.0.0.1", "::1"))
