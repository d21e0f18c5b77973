"""The start-up benchmark's clock for the usual side stops at the prediction."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks import start_up

PATIENT = """
import sys, time, pathlib
print(7, flush=True)
until = time.monotonic() + 30
while not pathlib.Path(sys.argv[1]).exists():
    assert time.monotonic() < until, "nobody looked at the clock"
    time.sleep(0.01)
"""


def test_it_stops_before_the_process_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, clock = tmp_path / "looked", time.perf_counter

    def perf_counter() -> float:
        looked.touch()
        return clock()

    # The process ends only once somebody has looked at the clock.
    monkeypatch.setattr(time, "perf_counter", perf_counter)
    before = clock()
    predicted = start_up.until_predicted([sys.executable, "-c", PATIENT, str(looked)])
    assert before < predicted < clock()


@pytest.mark.parametrize("code", ["", "print('no')", "print(7); raise SystemExit(1)"])
def test_a_process_that_fails_is_no_measurement(code: str) -> None:
    with pytest.raises(AssertionError):
        start_up.until_predicted([sys.executable, "-c", code])
