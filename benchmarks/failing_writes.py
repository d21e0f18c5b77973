"""Let the n-th writing system call of a promotion fail, for every n: is anything half-promoted?

    python -m benchmarks.failing_writes [--every 1] [--json]

Real calls fail in a process of its own, those of SQLite among them (tests/backend/failing_disk.c,
built with ``cc``): for a training that is kept, a fine-tuned network that is adopted, and a
promotion by hand; with no space, an I/O error and a read-only disk; once, and for good. After each
failure the database is checked, every version is loaded and the champion must be the old or the new
one, whole; then the same is done once more and must go well. Exits with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import errno
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.report import report, say
from tests.backend.failing_promotions import run_attack

KINDS = ("learn", "adopt", "by-hand")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="let only every so many-th call fail")
    parser.add_argument("--json", action="store_true", help="say nothing but the result")
    wanted = parser.parse_args()
    found: dict[str, Any] = {}
    for kind, error, sticky in product(KINDS, ERRORS, (False, True)):
        name = f"{kind}, {errno.errorcode[error]}, {'and all that follow' if sticky else 'once'}"
        with tempfile.TemporaryDirectory() as folder:
            seen = run_attack(Path(folder), kind, error, sticky=sticky, every=wanted.every)
        found[name] = seen
        if not wanted.json:
            say(f"{name}: {seen['calls']} calls, {len(seen['wrong'])} wrong, {seen['outcomes']}")
    wrong = sum(len(seen["wrong"]) for seen in found.values())
    report({"attacks": found, "wrong": wrong})
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
