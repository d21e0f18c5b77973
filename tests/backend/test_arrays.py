from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from backend.arrays import Images, read_floats, read_ints
from backend.store import Store
from backend.tables import Task
from tests.backend.conftest import Tables

_HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(
    st.lists(st.lists(st.tuples(st.floats(-9, 9, width=16), _HEX), min_size=1, max_size=5)),
    st.integers(0, 12),
)
def test_what_comes_in_parts_is_put_together(
    parts: list[list[tuple[float, str]]], expected: int
) -> None:
    images = Images(expected)
    for part in parts:
        vectors = [np.array([value, 1], dtype="<f2").tobytes() for value, _ in part]
        images.add(vectors, [name for _, name in part])
    whole = [pair for part in parts for pair in part]
    assert images.vectors.dtype == np.float16
    assert images.vectors.tolist() == [[value, 1.0] for value, _ in whole]
    assert [name.decode() for name in images.names(1)[0].tolist()] == [name for _, name in whole]


def test_rows_are_read_as_numbers(tables: Tables, store: Store) -> None:
    for task_id in (5, 3):
        tables.task(task_id)
    with store.write() as session:
        session.get_one(Task, (1, 5)).pushed_score = 0.25
    with store.read() as session:
        query = select(Task.id, Task.is_labeled, Task.pushed_score).order_by(Task.id)
        assert read_floats(session, query) == pytest.approx(
            np.array([[3, 0, np.nan], [5, 0, 0.25]]), nan_ok=True
        )
        ints = read_ints(session, select(Task.id, Task.is_labeled).order_by(Task.id))
        assert (ints.dtype, ints.tolist()) == (np.int64, [[3, 0], [5, 0]])
        assert read_ints(session, select(Task.id).where(Task.id > 9)).shape == (0, 1)
