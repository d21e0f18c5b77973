"""Lose 30% of the webhooks, double and shuffle the rest: what is wrong, and what one look mends.

    python -m benchmarks.lost_webhooks [--actions 300] [--seed 7] [--json]

A person submits, changes, deletes and skips in a real Label Studio, whose webhooks go through a
postman who loses some and delivers the others twice, out of order. Then Tiebreak looks once, as it
does from time to time by itself. Exits with 1 where its labels are not those of Label Studio's
export.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.loop import running_loop
from benchmarks.report import report, say
from tests.e2e.bad_post import RARELY, label_through


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="say nothing but the result")
    wanted = parser.parse_args()
    with running_loop(fast_import=True, **RARELY) as loop:
        project = loop.digits.create_project("Digits")
        loop.digits.add_tasks(project, range(2 * wanted.actions))
        loop.tiebreak.connect(project)
        loop.tiebreak.wait(project, lambda s: s["served"] == "v0", 600)
        if not wanted.json:
            say(f"{wanted.actions} actions")
        found = label_through(
            loop.tiebreak, loop.digits, project, actions=wanted.actions, seed=wanted.seed
        )
    report(found)
    sys.exit(1 if found["wrong_after_one_look"] else 0)


if __name__ == "__main__":
    main()
