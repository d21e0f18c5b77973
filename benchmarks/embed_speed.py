"""Embedding photos: the usual backend, the limit of this machine, and Tiebreak, in turns.

    python -m benchmarks.embed_speed [--backbone mobilenet_v2] [--images 2000] [--json]
        [--weights FOLDER] [--originals FOLDER] [--usual 100] [--round 500]

Distinct JPEGs of 1600 × 1200 (see :mod:`benchmarks.photos`), served by a process of its own on
127.0.0.1 over HTTP.

``usual``: as the examples of label-studio-ml do it. Requests of ten tasks; each request builds the
network and loads its weights; each image is fetched, decoded by Pillow at full size, resized, made
a tensor and embedded alone by eager torch in 32 bits. Of every round only the first ``--usual``
images.

``limit``: the bare scaled decoder (simplejpeg) on the same bytes in memory and the bare network
(OpenVINO) on ready pixels, both at once on all cores: as many threads as cores, each of which
decodes an image and runs the network, in turn. Nothing is fetched, resized or kept.

``ours``: ``embed_chunk`` into an empty database and data folder: fetching, hashing, decoding in
children, working copies, resizing, embedding, commits. Network and children are there already.

``share_of_limit`` is by time, ``share_of_limit_by_processor`` by what all processes of ours took of
the processor, without the file server, which what else runs on the machine disturbs less.

Without weights of the backbone in ``--weights`` they are random, which changes no speed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from backend.engine import LocalEngine
from backend.images import ImageFetcher
from backend.pool import embed_chunk
from backend.settings import Settings
from backend.store import Store
from backend.working_copies import WorkingCopies
from benchmarks.photos import write_photos
from benchmarks.report import report, say
from model.backbones import BACKBONES, load_backbone
from model.openvino_runtime import OpenVinoRuntime
from tests.backend.conftest import Tables

REQUEST = 10
INPUT, SIDE = 224, 288
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class FileServer:
    """The photos over HTTP, and what serving them takes of the processor."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.file_server", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def processor(self) -> float:
        return processor_of([self.process.pid])


def processor_of(pids: Sequence[int]) -> float:
    """Seconds of the processor that those processes took, with threads that have ended."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Usual:
    """A backend after the examples of label-studio-ml."""

    def __init__(self, backbone: str, weights: Path) -> None:
        self._spec, self._weights = BACKBONES[backbone], weights
        self._transform = v2.Compose(
            [
                v2.Resize((INPUT, INPUT)),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )
        self.loading = 0.0

    def __call__(self, urls: Sequence[str]) -> None:
        for start in range(0, len(urls), REQUEST):
            self._request(urls[start : start + REQUEST])

    def _request(self, urls: Sequence[str]) -> None:
        began = time.perf_counter()
        network = torchvision.models.get_model(
            self._spec.architecture or self._spec.name, weights=None
        )
        network.load_state_dict(torch.load(self._weights, weights_only=True))
        network.set_submodule(self._spec.head, torch.nn.Identity())
        network.eval()
        self.loading += time.perf_counter() - began
        for url in urls:
            with tempfile.NamedTemporaryFile(suffix=".jpg") as file, torch.no_grad():
                file.write(httpx.get(url).content)
                file.flush()
                picture = Image.open(file.name).convert("RGB")
                network(self._transform(picture).unsqueeze(0)).numpy()


class Limit:
    """The bare decoder and the bare network, both at once on all cores."""

    def __init__(self, runtime: OpenVinoRuntime) -> None:
        self._network = runtime._fast
        self._pixels = np.random.default_rng(0).integers(0, 256, (INPUT, INPUT, 3), np.uint8)
        self._threads = ThreadPoolExecutor(os.cpu_count())
        self.decoding = self.forward = 0.0

    def __call__(self, files: Sequence[bytes]) -> None:
        list(self._threads.map(self._one, files))

    def apart(self, files: Sequence[bytes]) -> None:
        """What each of the two takes of the processor by itself."""
        began = time.process_time()
        for data in files:
            self._decode(data)
        between = time.process_time()
        self._network.run([self._pixels] * len(files))
        self.decoding += between - began
        self.forward += time.process_time() - between

    def _one(self, data: bytes) -> None:
        self._decode(data)
        self._network._one(self._pixels)

    @staticmethod
    def _decode(data: bytes) -> None:
        simplejpeg.decode_jpeg(data, "RGB", min_height=SIDE, min_width=SIDE, min_factor=1)


class Ours:
    """The product's own path, into a database and a data folder that are empty at first."""

    def __init__(self, backbone: str, weights: Path, folder: Path) -> None:
        self._settings = Settings(
            data_dir=folder,
            backbone=backbone,
            weights_dir=weights.parent,
            input_size=INPUT,
            image_allowed_networks=("127.0.0.0/8",),
            database_url=None,
        )
        self._store = Store(self._settings.database_address)
        self._store.migrate()
        self._tables, self._tasks = Tables(self._store), 0
        self.engine = LocalEngine(self._settings)
        self._fetcher = ImageFetcher(self._settings, None)
        self._copies = WorkingCopies(self._settings.working_copies, SIDE)

    def add(self, urls: Sequence[str]) -> None:
        """Tasks for those images."""
        for url in urls:
            self._tasks += 1
            self._tables.task(self._tasks, image=url)

    def __call__(self, *_: object) -> None:
        workers = self._settings.image_workers
        while embed_chunk(
            self._store,
            self._fetcher,
            self._copies,
            self.engine,
            1,
            labelled_only=False,
            workers=workers,
        ):
            pass

    def processor(self) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        living = processor_of(self._fetcher.decoders.pids())
        return time.process_time() + living + ended.ru_utime + ended.ru_stime

    def close(self) -> None:
        self._fetcher.close()
        self._store.close()


def usable_weights(backbone: str, given: Path | None, folder: Path) -> Path:
    """A state dict of torchvision's whole network: the given folder's, or a random one."""
    spec = BACKBONES[backbone]
    path = (given or folder) / spec.pretrained.file_name
    if path.exists():
        return path
    say(f"no {path.name}: random weights")
    torch.manual_seed(0)
    network = torchvision.models.get_model(spec.architecture or spec.name, weights=None)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(8, 3, INPUT, INPUT))  # sets the batch norms
    folder.mkdir()
    torch.save(network.state_dict(), folder / f"{backbone}.pth")
    return folder / f"{backbone}.pth"


def timed(work: Callable[[Any], None], given: Any, processor: Callable[[], float]) -> Any:
    """(2,) seconds by the clock and of the processor."""
    cpu, wall = processor(), time.perf_counter()
    work(given)
    return np.array([time.perf_counter() - wall, processor() - cpu])


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All three, round by round."""
    say(f"making {options.images} photos")
    paths = write_photos(folder / "photos", options.images, options.originals)
    weights = usable_weights(options.backbone, options.weights, folder / "weights")
    server = FileServer(folder / "photos")
    ours = Ours(options.backbone, weights, folder / "data")
    usual = Usual(options.backbone, weights)
    try:
        backbone = load_backbone(
            options.backbone, weights_dir=weights.parent, cache_dir=folder / "cache"
        )
        limit = Limit(OpenVinoRuntime(backbone.network, INPUT, backbone.width))
        ours.add([f"{server.url}/{path.name}" for path in paths[:8]])
        ours()
        return in_turns(options, paths, server, usual, limit, ours)
    finally:
        ours.close()
        server.process.kill()
        server.process.wait()


def in_turns(
    options: argparse.Namespace,
    paths: Sequence[Path],
    server: FileServer,
    usual: Usual,
    limit: Limit,
    ours: Ours,
) -> dict[str, Any]:
    """Milliseconds of an image, each of the three on the same images."""
    spent = {"usual": np.zeros(2), "limit": np.zeros(2), "ours": np.zeros(2)}
    embedded = asked = 0
    serving = 0.0
    for start in range(8, len(paths), options.round):
        part = paths[start : start + options.round]
        urls = [f"{server.url}/{path.name}" for path in part]
        files = [path.read_bytes() for path in part]
        spent["limit"] += timed(limit, files, time.process_time)
        limit.apart(files)
        ours.add(urls)
        before = server.processor()
        spent["ours"] += timed(ours, None, ours.processor)
        serving += server.processor() - before
        spent["usual"] += timed(usual, urls[: options.usual], time.process_time)
        embedded, asked = embedded + len(part), asked + len(urls[: options.usual])
        say(f"{embedded} images: {spent['ours'][0] / embedded * 1000:.1f} ms each")
    counts = {"usual": asked, "limit": embedded, "ours": embedded}
    each = {name: spent[name] / counts[name] * 1000 for name in spent}
    without = each["usual"][0] - usual.loading / asked * 1000
    return {
        "backbone": options.backbone,
        "images": embedded,
        "images_of_usual": asked,
        "bytes_of_a_photo": sum(path.stat().st_size for path in paths) // len(paths),
        "wall_ms": {name: round(float(each[name][0]), 2) for name in each},
        "processor_ms": {name: round(float(each[name][1]), 2) for name in each},
        "usual_wall_ms_without_loading": round(float(without), 2),
        "decoder_ms": round(limit.decoding / embedded * 1000, 2),
        "network_ms": round(limit.forward / embedded * 1000, 2),
        "file_server_ms": round(serving / embedded * 1000, 2),
        "times_usual": round(float(each["usual"][0] / each["ours"][0]), 1),
        "times_usual_without_loading": round(float(without / each["ours"][0]), 1),
        "share_of_limit": round(float(each["limit"][0] / each["ours"][0]), 2),
        "share_of_limit_by_processor": round(float(each["limit"][1] / each["ours"][1]), 2),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default="mobilenet_v2")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--weights", type=Path, help="folder with torchvision's weights")
    parser.add_argument("--originals", type=Path, help="folder with pictures to enlarge")
    parser.add_argument("--usual", type=int, default=100, help="images of a round for the usual")
    parser.add_argument("--round", type=int, default=500, help="images of a round")
    parser.add_argument("--json", action="store_true", help="the only form there is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
