from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backend.id_ranges import ids_of, ranges_of


def test_by_hand():
    assert ranges_of([3, 1, 2, 9, 11, 12]) == "1-3,9,11-12"
    assert ids_of("1-3,9,11-12").tolist() == [1, 2, 3, 9, 11, 12]
    assert ranges_of([]) == ""
    assert ids_of("").tolist() == []


@given(st.sets(st.integers(0, 2**62)))
def test_what_is_written_is_read(ids: set[int]):
    assert ids_of(ranges_of(ids)).tolist() == sorted(ids)
