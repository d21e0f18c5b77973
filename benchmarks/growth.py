"""What each step of the product costs as a pool grows, and the most memory that they take.

    python -m benchmarks.growth --json growth.json --plot growth.png

For each size a database is written with made-up embeddings of 512 numbers, 500 labels and a version
that learned them; the tasks come from a stand-in for Label Studio that makes them up one by one,
and are written by the product's own look. Then a process of its own does one step after the other,
the product's own functions on the real SQLite file. Its memory is VmHWM: all that it held at once,
Python and libraries included. The database of a million takes 3 GB of disk, which are free again in
the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from sqlalchemy import func, insert, select

from backend import labelstudio
from backend.candidate import challenge
from backend.champion import Champions
from backend.groups import group_images
from backend.labels import Annotation
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.metrics_database import DatabaseFigures
from backend.ordering import make_order
from backend.orders import newest_order, places_of
from backend.outlook import outlook_of
from backend.pool_priors import PoolPriors
from backend.projects import newest_version, project_status, register_project
from backend.push_plan import plan_push
from backend.settings import Settings
from backend.standing import count
from backend.store import Store
from backend.sync import controls_of, look_at_everything, look_at_tasks
from backend.tables import ImageGroup, Order, Project
from backend.training import train
from benchmarks.report import report, say
from benchmarks.synthetic import digest_of, slices, write_embeddings

WIDTH, CLASSES, LABELS, NEW = 512, 10, 500, 100
BACKBONE = "synthetic-512"
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="label" toName="image">'
    + "".join(f'<Choice value="c{n}"/>' for n in range(CLASSES))
    + "</Choices></View>"
)
MEGABYTE = 2**20


class MadeUp:
    """Stands for a Label Studio with one project of ``count`` tasks, of which some are labelled."""

    def __init__(self, count: int) -> None:
        self.count = count

    def project(self, _: int) -> SimpleNamespace:
        return SimpleNamespace(title="Growth", label_config=CONFIG)

    def tasks(self, _: int) -> Iterator[labelstudio.Task]:
        return (self._task(n) for n in range(1, self.count + 1))

    def annotated(self, _: int) -> Iterator[tuple[int, list[Annotation]]]:
        return ((n, self._annotations(n)) for n in range(1, LABELS + 1))

    def task_annotations(
        self, _: int, task_ids: list[int]
    ) -> dict[int, tuple[labelstudio.Task, list[Annotation]]]:
        return {n: (self._task(n), self._annotations(n)) for n in task_ids}

    def _task(self, n: int) -> labelstudio.Task:
        done = n <= LABELS
        return labelstudio.Task(n, {"image": uri(n)}, done, int(done), "2026-01-01T00:00:00Z")

    @staticmethod
    def _annotations(n: int) -> list[Annotation]:
        value = {"choices": [f"c{class_of(n)}"]}
        item = {"from_name": "label", "to_name": "image", "type": "choices", "value": value}
        return [Annotation(n, n, [item], False, 1, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")]


def uri(task_id: int) -> str:
    """Address of a task's image."""
    return f"/data/local-files/?d=images/{task_id:07d}.jpg"


def class_of(task_id: int) -> int:
    """What the image of a task shows."""
    return int(hashlib.sha256(str(task_id).encode()).hexdigest()[:8], 16) % CLASSES


def build(store: Store, settings: Settings, size: int) -> dict[str, float]:
    """Write a project of that many tasks, all embedded and grouped but for the last few."""
    store.migrate()
    register_project(store, 1, title="Growth", label_config=CONFIG)
    client = cast(LabelStudio, MadeUp(size))
    began = time.perf_counter()
    look_at_everything(store, client, 1)
    found = {"first look, every task new": time.perf_counter() - began}
    uris = [uri(n) for n in range(1, size + 1)]
    classes = np.array([class_of(n) for n in range(1, size + 1)])
    write_embeddings(store, uris, classes, BACKBONE, WIDTH, np.random.default_rng(size))
    for places in slices(size - NEW):
        digests = [digest_of(uris[i]) for i in places]
        rows = [{"project_id": 1, "digest": d, "leader": d} for d in digests]
        with store.write() as session:
            session.execute(insert(ImageGroup), rows)
    leases = Leases(store, "growth", 3600)
    assert leases.acquire(1)
    assert train(store, leases, settings, 1, BACKBONE, None).kept
    return found


def steps(store: Store, settings: Settings, size: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps in the order in which a trainer comes to them, each with what does it."""
    client, leases = cast(LabelStudio, MadeUp(size)), Leases(store, "growth", 3600)
    champions, priors = Champions(store, settings.data_dir), PoolPriors()

    def reading(work: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> Any:
            with store.read() as session:
                return work(session, session.get_one(Project, 1))

        return run

    def learn() -> Any:
        return challenge(store, settings, 1, BACKBONE, champions.get(1), priors=priors)

    def order(session: Any, project: Project) -> Order:
        return make_order(session, project, champions.get(1), settings, BACKBONE, "measured")

    def plan(session: Any, project: Project) -> Any:
        artifact = champions.get(1)
        assert artifact is not None
        made = newest_order(session, 1, artifact.version)
        assert made is not None
        return plan_push(session, project, artifact, made, settings)

    yield "a label: look at its task", lambda: look_at_tasks(store, client, 1, [size // 2])
    yield "look at every task, nothing new", lambda: look_at_everything(store, client, 1)
    yield "count what is embedded and known", reading(lambda s, _: count(s, 1, BACKBONE))
    yield "train, first time: pool prior and head", learn
    yield "train again: head", learn
    made = reading(order)
    kept: list[Order] = []
    yield "order: read, score, pick, line up", lambda: kept.append(made())
    with store.write() as session:
        session.add(kept[0])
    yield (
        "place of one task",
        reading(lambda s, _: places_of(newest_order(s, 1, 1)).get(size - NEW)),
    )
    plans: list[Any] = []
    planned = reading(plan)
    yield "plan of a push", lambda: plans.append(planned())
    yield "predictions of its head, 100", reading(lambda s, _: plans[0].part(s, 0, 100))
    some = min(2_000, len(plans[0]))
    yield (
        "predictions of 2,000 more",
        reading(lambda s, _: plans[0].part(s, len(plans[0]) - some, len(plans[0]))),
    )
    yield "groups of 100 new images", lambda: group_images(store, leases, 1, BACKBONE)
    yield (
        "forecast",
        reading(lambda s, p: outlook_of(s, p, controls_of(p), newest_version(s, 1), settings)),
    )
    yield "status page", reading(lambda s, p: project_status(s, p, settings.lease_seconds))
    figures = DatabaseFigures(store, settings.lease_seconds)
    yield "figures for Prometheus", lambda: list(figures.collect())


def measure(store: Store, settings: Settings, size: int) -> dict[str, Any]:
    """Seconds, seconds of the processors and megabytes at most, of each step."""
    found: dict[str, Any] = {}
    for name, work in steps(store, settings, size):
        highest(reset=True)
        began, cpu = time.perf_counter(), time.process_time()
        work()
        seconds, worked = time.perf_counter() - began, time.process_time() - cpu
        found[name] = {
            "seconds": round(seconds, 4),
            "cpu_seconds": round(worked, 4),
            "megabytes": round(highest()),
        }
        say(f"{size:>9,} {name}: {seconds:.3f} s ({worked:.3f} s of work), {highest():.0f} MB")
    return {"steps": found, "megabytes": max(each["megabytes"] for each in found.values())}


def highest(*, reset: bool = False) -> float:
    """VmHWM of this process in megabytes; ``reset`` sets it back to what is held now."""
    status = Path("/proc/self/status").read_text()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MEGABYTE


def of_size(size: int, folder: Path, part: str) -> dict[str, Any]:
    """One part of the work for one size, in this process."""
    settings = Settings(
        data_dir=folder / "data",
        label_studio_url="http://127.0.0.1:9",
        label_studio_api_key="0" * 40,
        database_url=None,
        gate_margin=1.0,
    )
    with closing(Store(settings.database_address)) as store:
        if part == "build":
            return {**build(store, settings, size), "megabytes": round(highest())}
        with store.read() as session:
            assert session.scalar(select(func.count()).select_from(ImageGroup)) == size - NEW
        return measure(store, settings, size)


def in_child(size: int, folder: Path, part: str) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--part", part, "--folder", str(folder)]
    done = subprocess.run([*command, "--sizes", str(size)], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Slope of the straight line through the logarithms: 1 is in proportion to the pool."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(seconds, 1e-5)), 1)[0])


def plot(found: Mapping[int, Mapping[str, Any]], path: Path) -> None:
    """A line for each step on two logarithmic axes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 6))
    sizes = sorted(found)
    names = list(found[sizes[-1]]["steps"])
    colours = pyplot.get_cmap("tab20").colors  # type: ignore[attr-defined]
    for name, colour in zip(names, colours, strict=False):
        values = [found[size]["steps"][name]["cpu_seconds"] for size in sizes]
        label = f"{name} ({slope(sizes[-2:], values[-2:]):.2f})"
        axes.loglog(sizes, np.maximum(values, 1e-4), marker="o", ms=3, color=colour, label=label)
    axes.set_xlabel("tasks in the project")
    axes.set_ylabel("seconds of the processors")
    axes.grid(which="major", alpha=0.3)
    axes.legend(
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        title="step (slope of the last stretch)",
        title_fontsize=8,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sizes", default="1000,10000,100000,1000000")
    arguments.add_argument("--json", type=Path, help="write the figures there, too")
    arguments.add_argument("--plot", type=Path, help="draw the lines there")
    arguments.add_argument("--folder", type=Path, help="where the databases are written")
    arguments.add_argument("--part", choices=("build", "measure"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    if given.part:
        print(json.dumps(of_size(sizes[0], given.folder, given.part)))
        return
    found: dict[int, Any] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            say(f"{size:,} tasks are written")
            built = in_child(size, Path(name), "build")
            found[size] = {**in_child(size, Path(name), "measure"), "build": built}
    if given.plot:
        plot(found, given.plot)
    result = {"width": WIDTH, "labels": LABELS, "sizes": found, "slopes": slopes(found)}
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    report(result)


def slopes(found: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """Step → slope of its work over all sizes from 10,000 on."""
    sizes = [size for size in sorted(found) if size >= 10_000]
    if len(sizes) < 2:
        return {}
    names = found[sizes[-1]]["steps"]
    values = {n: [found[size]["steps"][n]["cpu_seconds"] for size in sizes] for n in names}
    return {
        n: round(slope(sizes, each), 2) for n, each in values.items() if not math.isnan(each[0])
    }


if __name__ == "__main__":
    main()
