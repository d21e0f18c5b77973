"""Hostile image files, each among good ones: what comes of it, how long, how much memory.

    python -m benchmarks.hostile_images [--json] [--light] [--only WORDS]

Each file is asked for in a call of ``/predict``'s own code, with three good pictures that nobody
has seen before, and a Label Studio's stand-in serves all of them. The processes that decode are
new for each file; their highest resident memory is read from the kernel every few milliseconds.
Exits with 1 where an outcome is not the expected one, a good picture is not answered, or a process
takes more than 1 GB. Without ``--json`` it prints the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backend.labelstudio import LabelStudio
from backend.settings import Settings
from backend.store import Store
from benchmarks.report import report, say
from tests.backend.hostile_batch import HostileBatch
from tests.backend.hostile_images import FAMILIES
from tests.backend.small_label_studio import SmallLabelStudio

MOST_BYTES = 1_000_000_000
GOOD = 3


@contextlib.contextmanager
def hostile_batch(**changes: Any) -> Iterator[HostileBatch]:
    """The project and its Label Studio, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, SmallLabelStudio() as studio:
        threading.Thread(target=studio.serve_forever, daemon=True).start()
        settings = Settings(data_dir=Path(folder), database_url=None, **changes)
        store = Store(settings.database_address)
        store.migrate()
        with LabelStudio(studio.url, "0" * 40) as client:
            batch = HostileBatch(settings, store, studio, client)
            yield batch
            batch.fetcher.close()
        store.close()
        studio.shutdown()


class HighestMemory:
    """The highest resident memory of a few processes while they live, in bytes."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self.bytes = 0
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> HighestMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.003):
            for pid in self._pids():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    found = re.search(r"VmHWM:\s+(\d+) kB", status)
                    self.bytes = max(self.bytes, int(found[1]) * 1024 if found else 0)


def measure(batch: HostileBatch, light: bool, only: str) -> list[dict[str, Any]]:
    """A row for each file."""
    rows = []
    for family, hostile in FAMILIES.items():
        for one in hostile:
            if (light and one.heavy) or only not in f"{family}: {one.name}":
                continue
            data = one.make()
            batch.fetcher.decoders.close()
            with HighestMemory(batch.fetcher.decoders.pids) as memory:
                started = time.monotonic()
                (outcome,) = batch.answer([(one, data)], good=GOOD)
                seconds = time.monotonic() - started
            wide, high = outcome.size or (0, 0)
            rows.append(
                {
                    "family": family,
                    "name": one.name,
                    "file_bytes": len(data),
                    "outcome": f"{wide} × {high}" if outcome.size else outcome.said,
                    "expected": outcome.expected,
                    "seconds": round(seconds, 2),
                    "memory_mb": round(memory.bytes / 1e6),
                }
            )
            say(f"{family}: {one.name}: {rows[-1]['outcome']}, {seconds:.2f} s")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| file | its size | outcome | seconds | MB |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        said = re.sub(r"^/data/\d+: ", "", row["outcome"])
        said = re.split(r" (?=TIEBREAK_|Allowed are |Save it )", said)[0]
        size = f"{row['file_bytes']:,}"
        name = f"{row['family']}: {row['name']}".replace("no image: ", "")
        name = name.removeprefix("newer: ")
        lines.append(f"| {name} | {size} | {said} | {row['seconds']} | {row['memory_mb']} |")
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--light", action="store_true", help="without those that take seconds")
    parser.add_argument("--only", default="", help="those whose name has these words")
    wanted = parser.parse_args()
    with hostile_batch() as batch:
        rows = measure(batch, wanted.light, wanted.only)
    found = {
        "files": len(rows),
        "unexpected": [row for row in rows if not row["expected"]],
        "good_pictures_answered": GOOD * len(rows),
        "slowest_seconds": max(row["seconds"] for row in rows),
        "most_memory_mb": max(row["memory_mb"] for row in rows),
    }
    if wanted.json:
        report(found | {"rows": rows})
    else:
        print(table(rows))
        say(str(found))
    sys.exit(1 if found["unexpected"] or found["most_memory_mb"] * 1e6 > MOST_BYTES else 0)


if __name__ == "__main__":
    main()
