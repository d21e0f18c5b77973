"""The n-th write of a promotion fails, for every n: never is anything half-promoted."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from tests.backend.failing_disk import FailingDisk
from tests.backend.failing_promotions import run_attack

pytestmark = pytest.mark.skipif(
    not FailingDisk.can_be_built() or sys.platform != "linux",
    reason="a C compiler and Linux's LD_PRELOAD are needed",
)


@pytest.mark.parametrize(
    ("kind", "error", "sticky", "every"),
    [
        ("learn", errno.ENOSPC, True, 4),
        ("learn", errno.EIO, False, 7),
        ("by-hand", errno.ENOSPC, False, 2),
        ("adopt", errno.EROFS, True, 9),
    ],
)
def test_the_nth_write_of_a_promotion_fails(
    tmp_path: Path, kind: str, error: int, sticky: bool, every: int
) -> None:
    found = run_attack(tmp_path, kind, error, sticky=sticky, every=every)
    assert found["wrong"] == []
    assert found["calls"] > (5 if kind == "by-hand" else 15)
    assert found["told"]["StorageError"] > 0
    assert found["outcomes"]["as before"] > 0
