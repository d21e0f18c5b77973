"""Kill server, trainer and fine-tune at random moments: what is lost, and how long nobody serves.

    python -m benchmarks.kills [--kills 200] [--minutes 60] [--seed 5] [--json]

A person labels pictures in a real Label Studio, fine-tunes are under way all the time, and one of
the processes is killed with SIGKILL and started again, over and over. After each kill the database
is checked and every version loaded; at the end the labels are compared with what the person said.
Exits with 1 where a label is lost or wrong, a version does not load, the database is damaged, or it
took longer than ten seconds until somebody was served again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.loop import running_loop
from benchmarks.report import report, say
from tests.e2e.finetune_killing import FINE_TUNES
from tests.e2e.killing import FORGETFUL, Killing
from tests.e2e.stripes import Stripes

MOST_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60, help="kill for no longer than that")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="say nothing but the result")
    wanted = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_loop(fast_import=True, **FINE_TUNES, **FORGETFUL) as loop,
    ):
        stripes = Stripes(loop.label_studio, Path(folder))
        project = stripes.create_project("Stripes")
        killing = Killing(loop.tiebreak, stripes, project, random.Random(wanted.seed))
        killing.prepare(labelled=60, waiting=150)
        deadline = time.monotonic() + 60 * wanted.minutes
        while (done := sum(killing.killed.values())) < wanted.kills:
            if time.monotonic() > deadline:
                say(f"the time is over after {done} of {wanted.kills} kills")
                break
            if done % 10 == 0 and not wanted.json:
                say(f"{done} kills, {len(killing.failures)} failures")
            killing.round()
        status = killing.settle()
        found = killing.report() | {"trained": status["version"]}
    slowest = max(each["slowest"] for each in found["serving_again_seconds"].values())
    report(found | {"seconds": round(time.monotonic() - began)})
    bad = (
        found["kills"] < wanted.kills
        or found["labels_lost"]
        or found["labels_wrong"]
        or found["failures"]
    )
    sys.exit(1 if bad or slowest > MOST_SECONDS else 0)


if __name__ == "__main__":
    main()
