from __future__ import annotations

import threading

import pytest

from model.parallel import blocks, cores, each


@pytest.mark.parametrize(("count", "most"), [(10, 3), (2, 5), (0, 2), (7, 1)])
def test_blocks_hold_every_row_once(count: int, most: int):
    found = blocks(count, most)
    assert [row for part in found for row in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in found]
    assert len(found) <= most
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


def test_one_core_works_in_the_caller_s_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores() == 1
    assert set(each(lambda _: threading.get_ident(), [1, 2, 3])) == {threading.get_ident()}


def test_answers_keep_their_order_and_an_error_is_the_caller_s():
    assert each(lambda n: n * n, list(range(20))) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        each(lambda n: 1 // n, [1, 0])


def test_what_is_no_number_of_threads_is_ignored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    there = cores()
    for said in ("many", "", "0x2"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert cores() == there
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert cores() == 1
