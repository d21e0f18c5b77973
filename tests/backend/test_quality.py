"""How long a label takes, in words."""

from __future__ import annotations

import pytest

from backend.quality import quality_json
from tests.backend.conftest import Tables
from tests.backend.test_suspicious import vote


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((10, 20, 30, 40, 200, 300), "35 seconds or less (10 to 300)"),
        ((40, 50, 60, 70, 100, 1500), "65 seconds or less (40 to 1500)"),
        ((1, 2, 3.24, 3.24, 5, 9.96), "3.2 seconds or less (1 to 10)"),
        ((60, 300, 700, 800, 900, 3600), "12 minutes or less (1 to 60)"),
    ],
)
def test_seconds_are_said_in_full(tables: Tables, seconds: tuple[float, ...], said: str) -> None:
    for task, each in enumerate(seconds, 1):
        vote(tables.store, task, 1, "cat", each)
    with tables.store.read() as session:
        sentence = quality_json(session, 1)["seconds"]["sentence"]
    assert sentence == f"Half of the labels take {said}, of 6 that were timed."
