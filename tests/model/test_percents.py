"""Shares in sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.percents import percent


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.02, "2"),
        (0.07, "7"),
        (0.0004, "0.04"),
        (0.999, "99.9"),
        (0.99995, "99.995"),
        (1.0, "100"),
    ],
)
def test_as_it_was_given(share: float, words: str) -> None:
    assert percent(share) == words


@given(st.integers(1, 999_999))
def test_nothing_between_is_called_nothing_or_all(millionths: int) -> None:
    assert float(percent(millionths / 1e6)) == millionths / 1e4
