"""What it costs to decode in a process of its own: both ways, in turns, in one run.

    python -m benchmarks.decode_cost [--repeats 15] [--json]

Photo-like pictures (smooth noise) as JPEG and PNG of several sizes, to a working copy's side of
288. ``wall``: of one image, the quickest of all repeats. ``cpu``: mean processor time of one image,
of this process and the other together, which what else runs on the machine disturbs little. The
start of the process is measured apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from backend.decode import decode_image
from backend.decoders import Decoders
from benchmarks.report import report, say
from tests.backend.hostile_image import noise, saved

SIDE, MOST_PIXELS = 288, 100_000_000
SIZES = {"0.3 megapixels": (640, 480), "2 megapixels": (1600, 1200), "12 megapixels": (4000, 3000)}


def picture(width: int, height: int) -> Image.Image:
    """Something smooth with grain, which compresses about as a photo does."""
    smooth = noise(40, 30).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(smooth, noise(width, height, seed=1), 0.08)


class Clock:
    """Wall and processor time of decoding, here or in ``child``."""

    def __init__(self, decode: Callable[..., Image.Image], child: Callable[[], list[int]]) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._decode, self._child = decode, child

    def measure(self, data: bytes) -> float:
        """Decode once; the wall seconds."""
        cpu, wall = self._processor(), time.perf_counter()
        self._decode(data, max_pixels=MOST_PIXELS, side=SIDE)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(self._processor() - cpu)
        return self.wall[-1]

    def _processor(self) -> float:
        others = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in self._child()]
        return time.process_time() + sum(map(int, others)) / 1e9


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    repeats = parser.parse_args().repeats
    decoders = Decoders(1)
    rows: list[dict[str, Any]] = []
    start = Clock(decoders.decode, list).measure(saved(noise(8, 8), "PNG"))
    for name, size in SIZES.items():
        for format_ in ("JPEG", "PNG"):
            data = saved(picture(*size), format_)
            here = Clock(decode_image, list)
            apart = Clock(decoders.decode, decoders.pids)
            for _ in range(repeats):
                here.measure(data)
                apart.measure(data)
            rows.append(
                {
                    "picture": f"{format_}, {name}",
                    "file_kb": len(data) // 1000,
                    "wall_ms": [round(min(clock.wall) * 1000, 1) for clock in (here, apart)],
                    "cpu_ms": [round(fmean(clock.cpu) * 1000, 1) for clock in (here, apart)],
                    "cpu_ratio": round(fmean(apart.cpu) / fmean(here.cpu), 2),
                }
            )
            say(str(rows[-1]))
    decoders.close()
    report({"start_ms": round(start * 1000), "repeats": repeats, "rows": rows})


if __name__ == "__main__":
    main()
