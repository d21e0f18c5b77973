"""What one pick of each query strategy costs: seconds, and memory beside the embeddings.

    python -m benchmarks.query_cost --json
    python -m benchmarks.query_cost --rows 1000000 --repeats 1

Embeddings lie in 50 clusters of 10 classes; the probabilities are those of a linear head on them.
Each figure comes from a process of its own, which first picks from a small pool to be warm.
``seconds`` is the median over the repeats, ``cpu_seconds`` what the processors worked meanwhile,
``pool_cpu_seconds`` the same for the making and checking of the pool before. ``memory`` is the
largest growth of the process from before the embeddings were there until the picks were, in
multiples of the embeddings: they themselves, what the pool keeps, and what the strategy needs.
``reference`` is the least that any strategy by distance does: every row normalised once, and its
products with as many rows as are picked.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.report import machine, report, say
from model.head import Head
from model.queries import STRATEGIES, Answers, Pool, pick
from model.queries.geometry import blocks, rows_at

CLASSES, CLUSTERS = 10, 50
REFERENCE = "reference"


def centres(width: int) -> np.ndarray:
    """(50, d) float32, five near each other for each class; at least 0, like a network's."""
    generator = np.random.default_rng(1)
    classes = generator.exponential(1, (CLASSES, 1, width))
    parts = classes + generator.exponential(0.5, (CLASSES, CLUSTERS // CLASSES, width))
    return parts.reshape(CLUSTERS, width).astype(np.float32)


def embeddings(rows: int, width: int, dtype: str) -> np.ndarray:
    generator = np.random.default_rng(2)
    middles, found = centres(width), np.empty((rows, width), dtype=dtype)
    for start in range(0, rows, 4096):
        part = found[start : start + 4096]
        noise = generator.standard_normal(part.shape, dtype=np.float32)
        part[:] = np.maximum(middles[generator.integers(CLUSTERS, size=len(part))] + noise, 0)
    return found


def head(width: int) -> Head:
    middles = centres(width).reshape(CLASSES, -1, width).mean(axis=1)
    weights = 0.4 * (middles - middles.mean(axis=0)).T
    names = tuple(f"class {number}" for number in range(CLASSES))
    bias, temperature = np.zeros(CLASSES, np.float32), np.ones(1, np.float32)
    return Head(names, False, weights.astype(np.float32), bias, temperature)


def probabilities(asked: Head, matrix: np.ndarray) -> np.ndarray:
    parts = range(0, len(matrix), 4096)
    return np.concatenate([asked.probabilities(matrix[start : start + 4096]) for start in parts])


def pool_of(rows: int, width: int, dtype: str, labelled: int) -> tuple[Pool, float]:
    """A pool, and the seconds of work that making it took beside what it is made of."""
    matrix, asked = embeddings(rows, width, dtype), head(width)
    positions = np.random.default_rng(3).permutation(rows)[:labelled]
    said = probabilities(asked, matrix)
    counts = np.bincount(said[positions].argmax(axis=1), minlength=CLASSES)
    answers = Answers(said, False, asked, counts)
    started = time.process_time()
    pool = Pool(matrix, (answers,), positions)
    return pool, time.process_time() - started


def reference(pool: Pool, count: int, generator: np.random.Generator) -> np.ndarray:
    picked = rows_at(pool, generator.permutation(len(pool))[:count])
    nearest = np.empty(len(pool), dtype=np.float32)
    with threadpool_limits(limits=1, user_api="blas"):
        for part, rows in blocks(pool, np.arange(len(pool))):
            nearest[part] = (rows @ picked.T).max(axis=1)
    return nearest


def memory(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure(given: dict[str, Any]) -> dict[str, Any]:
    """One figure, in this process."""
    name, count = given["strategy"], given["count"]
    strategy = reference if name == REFERENCE else partial(pick, name)
    small, _ = pool_of(3000, given["width"], given["dtype"], min(given["labelled"], 100))
    strategy(small, 20, np.random.default_rng(0))
    del small
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    pool, making = pool_of(given["rows"], given["width"], given["dtype"], given["labelled"])
    seconds, cpu = [], []
    for repeat in range(given["repeats"]):
        started, worked = time.perf_counter(), time.process_time()
        strategy(pool, count, np.random.default_rng(repeat))
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    grown = memory("VmHWM") - before
    return given | {
        "seconds": round(statistics.median(seconds), 3),
        "cpu_seconds": round(statistics.median(cpu), 3),
        "pool_cpu_seconds": round(making, 3),
        "memory": round(grown / pool.embeddings.nbytes, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def in_its_own_process(given: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.query_cost", "--one", json.dumps(given)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout))


def table(figures: list[dict[str, Any]]) -> str:
    columns = ("strategy", "rows", "dtype", "labelled", "seconds", "cpu_seconds", "memory")
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(str(row[c]) for c in columns)} |" for row in figures]
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--strategies", default=",".join([REFERENCE, *STRATEGIES]))
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--width", type=int, default=512)
    arguments.add_argument("--dtypes", default="float16,float32")
    arguments.add_argument("--labelled", default="0,2000")
    arguments.add_argument("--count", type=int, default=200)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--json", action="store_true", help="one JSON object, not a table")
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        print(json.dumps(measure(json.loads(given.one))))
        return
    figures = []
    for dtype in given.dtypes.split(","):
        for labelled in map(int, given.labelled.split(",")):
            for strategy in given.strategies.split(","):
                common = {key: getattr(given, key) for key in ("rows", "width", "count", "repeats")}
                asked = {"strategy": strategy, "dtype": dtype, "labelled": labelled} | common
                figures.append(in_its_own_process(asked))
                say(json.dumps(figures[-1]))
    if given.json:
        report({"figures": figures})
    else:
        print(table(figures))
        print(json.dumps(machine()))


if __name__ == "__main__":
    main()
