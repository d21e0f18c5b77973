"""Kill the trainer at random moments of a fine-tune: what serves, and what comes of it.

    python -m benchmarks.finetune_kills [--kills 20] [--seed 20]

A project of 102 pictures in a real Label Studio, 72 of them labelled. One fine-tune is left alone;
then the trainer is killed with SIGKILL at moments drawn over the length of that one, and started
again, while somebody asks ``/predict`` all the time. Every fine-tune has the same labels, so each
must come to the same network, bit for bit. Exits with 1 where that, or an answer, is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.loop import running_loop
from benchmarks.report import report, say
from tests.e2e.digits import all_tasks
from tests.e2e.finetune_killing import FINE_TUNES, kill_and_restart, result_of
from tests.e2e.stripes import Stripes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20)
    wanted = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_loop(fast_import=True, **FINE_TUNES) as loop,
    ):
        studio, tiebreak = loop.label_studio, loop.tiebreak
        stripes = Stripes(studio, Path(folder))
        project = stripes.create_project("Stripes")
        stripes.teach(tiebreak, project, labelled=72, waiting=30, seconds=300)
        tasks = [t for t in all_tasks(studio.admin, project) if not t["is_labeled"]][:5]
        say("one fine-tune is left alone, then the kills begin")
        found = kill_and_restart(tiebreak, project, tasks, kills=wanted.kills, seed=wanted.seed)
    results = [result_of(outcome) for outcome in found.pop("outcomes")]
    undisturbed = result_of(found.pop("undisturbed"))
    same = sum(result == undisturbed for result in results)
    found |= {"result": undisturbed, "fine_tunes": len(results), "equal": same}
    report(found)
    sys.exit(0 if same == len(results) and not found["failures"] else 1)


if __name__ == "__main__":
    main()
