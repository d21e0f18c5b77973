"""``python -m benchmarks.ray_embedding``: embedding here, on a Ray cluster, and on one that loses a
node.

The cluster is a head and two nodes of one core each on this machine, so that both sides have the
same two cores. What Ray costs is the difference; what it brings needs more machines.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backend.engine import LocalEngine
from backend.ray_engine import RayEngine
from backend.settings import Settings, load_settings
from backend.working_copies import WorkingCopies
from benchmarks.report import report, say
from tests.backend.ray_cluster import RayCluster, running_cluster

CORES = 2


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", type=Path, default=None, help="folder with weights files")
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_cluster() as cluster:
        settings = load_settings(
            data_dir=Path(name),
            engine="ray",
            ray_address=cluster.address,
            backbone=options.backbone,
            weights_dir=options.weights,
        )
        report(measured(settings, cluster, options.images))


def measured(settings: Settings, cluster: RayCluster, n: int) -> dict[str, Any]:
    """Seconds of both sides, how far apart they are, and what a lost node costs."""
    copies = WorkingCopies(settings.working_copies, settings.working_copy_side)
    say(f"making {n} working copies")
    digests = [copies.put(photo(number)) for number in range(n)]
    here = LocalEngine(settings)
    torch.set_num_threads(CORES)
    here.embed([copies.open(digests[0])])
    began = time.perf_counter()
    ours = np.concatenate(
        [
            here.embed([copies.open(digest) for digest in digests[at : at + 64]])
            for at in range(0, n, 64)
        ]
    )
    local = time.perf_counter() - began
    say(f"here: {local:.1f} s")
    engine = RayEngine(settings)
    engine.backbone  # noqa: B018
    far = embedded(engine, digests, lambda: None)
    theirs = np.stack([far["vectors"][digest] for digest in digests])
    say(f"on Ray: {far['seconds']:.1f} s")
    lost = embedded(engine, digests, lambda: cluster.lose(1))
    engine.close()
    return {
        "images": n,
        "local_seconds": local,
        "ray_seconds": far["seconds"],
        "ray_seconds_to_first": far["first"],
        "ray_over_local": far["seconds"] / local,
        "ray_over_local_after_start": (far["seconds"] - far["first"]) / (local * (1 - 64 / n)),
        "largest_difference": float(np.abs(ours.astype(float) - theirs.astype(float)).max()),
        "largest_number": float(np.abs(ours.astype(float)).max()),
        "lost_node": {
            "seconds": lost["seconds"],
            "images": len(lost["vectors"]),
            "twice": lost["count"] - len(lost["vectors"]),
        },
        "mean_copy_bytes": float(np.mean([copies.path(each).stat().st_size for each in digests])),
    }


def embedded(engine: RayEngine, digests: list[str], on_first: Callable[[], None]) -> dict[str, Any]:
    """The vectors by digest, and the seconds until the first and until the last."""
    began, first = time.perf_counter(), 0.0
    vectors: dict[str, Any] = {}
    count = 0
    for part in engine.embed_copies(digests, engine.backbone):
        if not vectors:
            first = time.perf_counter() - began
            on_first()
        count += len(part.digests)
        vectors |= dict(zip(part.digests, part.vectors, strict=True))
    seconds = time.perf_counter() - began
    return {"vectors": vectors, "count": count, "seconds": seconds, "first": first}


def photo(number: int) -> bytes:
    """A JPEG of 384 × 288 pixels, smooth as photos are, different for each number."""
    small = np.random.default_rng(number).integers(0, 256, (18, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((384, 288), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


if __name__ == "__main__":
    main()
