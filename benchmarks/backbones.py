"""What each backbone costs: parameters, file, embedding width, and speed on this CPU.

    python -m benchmarks.backbones [--input-size 224] [--rounds 5] [--threads 1]

The weights are random: they do not change the speed. Every round embeds one batch with every
backbone in turn, so that a busy moment hits all of them; the median of the rounds counts. With
one thread, seconds of the processor are counted, which mean the same on a busy machine; with more,
seconds on the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from benchmarks.report import report, say
from model.backbones import BACKBONES, Backbone, build_network
from model.embed import CPU_BATCH, Embedder
from model.scratch import SCRATCH, build_scratch

YARDSTICK = "mobilenet_v2"


def random_backbone(name: str, input_size: int) -> Backbone:
    """The backbone ``name`` with seeded weights; one from scratch at its own input size."""
    if name in SCRATCH:
        return build_scratch(name, 0)
    spec = BACKBONES[name]
    torch.manual_seed(0)
    network = build_network(spec, spec.build().state_dict(), source="random")
    return Backbone(name, f"{name}-00000000-{input_size}px", spec.width, input_size, network)


def pictures(n: int, side: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    return [Image.fromarray(p) for p in pixels]


def seconds(embedder: Embedder, images: list[Image.Image], clock: Callable[[], float]) -> float:
    start = clock()
    embedder.embed(images)
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    images = pictures(CPU_BATCH, options.input_size)
    rows, embedders = {}, {}
    for name in (*BACKBONES, *SCRATCH):
        backbone = random_backbone(name, options.input_size)
        parameters = sum(p.numel() for p in backbone.network.parameters())
        numbers = sum(value.numel() for value in backbone.network.state_dict().values())
        embedders[name] = Embedder(backbone, device="cpu")
        embedders[name].embed(images)
        rows[name] = {
            "parameters": parameters,
            "megabytes": round(numbers * 4 / 1e6, 1),
            "width": backbone.width,
            "input_size": backbone.input_size,
        }
        say(f"{name}: {rows[name]}")
    taken: dict[str, list[float]] = {name: [] for name in embedders}
    for number in range(options.rounds):
        for name, embedder in embedders.items():
            taken[name].append(seconds(embedder, images, clock))
        say(f"round {number + 1} of {options.rounds}")
    usual = statistics.median(taken[YARDSTICK])
    for name, row in rows.items():
        middle = statistics.median(taken[name])
        row["images_per_second"] = round(len(images) / middle, 1)
        row["speed_against_" + YARDSTICK] = round(usual / middle, 2)
    report({"threads": options.threads, "backbones": rows})


if __name__ == "__main__":
    main()
