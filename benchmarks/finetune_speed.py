"""One epoch of a fine-tune: the usual way, the limit of this machine, and Tiebreak, in turns.

    python -m benchmarks.finetune_speed --images FOLDER [--backbone mobilenet_v2] [--rows 96]
        [--batch 32] [--rounds 3] [--weights FOLDER] [--device cpu] [--threads 2] [--json]

``FOLDER`` holds class folders of photos. Of ``--rows`` of them working copies are made first.

``ours``: an epoch as :mod:`model.tuning` goes through it, without the watched images: pictures that
lie ready, augmentation, forward, backward and the step of the optimiser. ``judging`` is what the
watched images cost after it, for as many images.

``limit``: forward, backward and step of the same network, batch and 16-bit type on tensors that lie
ready on the device. ``plain_limit``: the same of the network as torchvision makes it, its
normalisations frozen, without :mod:`model.fused`.

``usual``: as scripts for fine-tuning do it. Every image is decoded by Pillow at full size, cropped
and mirrored at random one by one in this process, and learned in 32 bits.

All of them run with the settings of a fine-tune's own process for threads and memory.

Milliseconds of an image, by the clock and of the processor; shares of the limit by either. Without
weights they are random, which changes no speed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from backend.finetune_child import environment
from backend.working_copies import WorkingCopies
from benchmarks.report import report, say
from model.architectures import BACKBONES
from model.augment import augmentation, draw_chances
from model.backbones import Backbone, load_backbone
from model.control_labels import ControlLabels
from model.devices import choose_device
from model.errors import TiebreakError
from model.finetune_options import FineTuneOptions
from model.finetune_progress import Teller
from model.fused import fuse_frozen, spare_slow_kernels
from model.learner import Learner, ask, trainable_copy
from model.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise
from model.pictures import Pictures, batches
from model.tuning import Material, Tuning
from model.validation import features_of

SIDE, COPY_SIDE, CLASSES = 224, 288, 10
Step = Callable[[Any, torch.Tensor], None]


class Steps:
    """Forward, backward and step of one network, and nothing else."""

    def __init__(self, network: nn.Module, device: torch.device, half: torch.dtype | None) -> None:
        width = network(torch.zeros(1, 3, SIDE, SIDE)).shape[1]
        self.network = nn.Sequential(network, nn.Linear(width, CLASSES)).to(device)
        self.network.to(memory_format=torch.channels_last)
        self.device, self._half = device, half
        self._normalise = Normalise(device)
        self._optimiser = torch.optim.AdamW(self.network.parameters(), 1e-4, foreach=True)

    def __call__(self, pixels: torch.Tensor, targets: torch.Tensor) -> None:
        """``pixels``: uint8 or normalised."""
        self._optimiser.zero_grad(set_to_none=True)
        inputs = self._normalise(pixels) if pixels.dtype == torch.uint8 else pixels
        with torch.autocast(self.device.type, dtype=self._half, enabled=self._half is not None):
            logits = self.network(inputs)
        nn.functional.cross_entropy(logits.float(), targets).backward()
        self._optimiser.step()


class Limit:
    """Steps on pixels that lie ready."""

    def __init__(self, steps: Steps, batch: int) -> None:
        self._steps = steps
        device = steps.device
        pixels = torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
        self._pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)
        self._targets = torch.arange(batch, device=device) % CLASSES

    def __call__(self, sizes: Sequence[int]) -> None:
        for size in sizes:
            self._steps(self._pixels[:size], self._targets[:size])


class Usual:
    """Images from their files, one by one."""

    def __init__(self, steps: Steps, paths: Sequence[Path]) -> None:
        self._steps, self._paths = steps, paths
        self._transform = v2.Compose(
            [
                v2.RandomResizedCrop((SIDE, SIDE)),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(0.2, 0.2, 0.2),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD)),
            ]
        )

    def __call__(self, sizes: Sequence[int]) -> None:
        done = 0
        for size in sizes:
            paths = self._paths[done : done + size]
            pixels = torch.stack([self._transform(Image.open(p).convert("RGB")) for p in paths])
            targets = torch.arange(size) % CLASSES
            self._steps(pixels.to(self._steps.device), targets.to(self._steps.device))
            done += size


class Ours:
    """The epochs of a real fine-tune."""

    def __init__(
        self, backbone: Backbone, copies: WorkingCopies, digests: Sequence[str], given: Any
    ) -> None:
        n, device = len(digests), choose_device(given.device)
        known = np.ones(n, dtype=np.bool_)
        classes = tuple(str(i) for i in range(CLASSES))
        labels = [ControlLabels("class", classes, False, np.arange(n) % CLASSES, known)]
        questions = ask(labels, known, device, weighted=True)
        self.pictures = Pictures(lambda row: copies.open(digests[row]), n, SIDE)
        self._rows, self._epochs = np.arange(n), 0
        self.learner = Learner(backbone, questions, device)
        self._tuning = Tuning(
            self.learner,
            Material(self.pictures, labels, questions, known),
            FineTuneOptions(augmentation="photos", epochs=1000, batch_size=given.batch),
            batch_size=given.batch,
            workers=given.workers,
            teller=Teller(lambda _: None, 1000),
            cancelled=lambda: False,
        )
        self._tuning.augmentation = augmentation("photos")
        self._chances = draw_chances(n, (0,))

    def __call__(self, _: Any) -> None:
        self._epochs += 1
        self._tuning.learn(self._epochs)

    def judge(self, _: Any) -> None:
        """The forward run of watched images."""
        features_of(self.learner, self.pictures, self._rows)

    def augment(self, sizes: Sequence[int]) -> None:
        """Reading and changing alone, without learning."""
        change = self._tuning.augmentation.changed
        for _ in batches(
            self.pictures,
            self._rows,
            sizes[0],
            device=self.learner.device,
            change=lambda pixels, places: change(pixels, self._chances[places]),
        ):
            pass


class Clock:
    """Seconds by the clock and of the processor of each way, round by round."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.wall: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable[[Sequence[int]], None], sizes: list[int]) -> None:
        self._wait()
        began, cpu = time.perf_counter(), time.process_time()
        work(sizes)
        self._wait()
        self.wall.setdefault(name, []).append((time.perf_counter() - began) / sum(sizes))
        self.processor.setdefault(name, []).append((time.process_time() - cpu) / sum(sizes))

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def photos(folder: Path, n: int) -> list[Path]:
    """``n`` photos, spread over the class folders."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(found) < n:
        raise SystemExit(f"{folder} holds {len(found)} photos; --rows {n} are asked for.")
    return found[:: len(found) // n][:n]


def made_backbone(given: argparse.Namespace, folder: Path) -> Backbone:
    """With pretrained weights where they can be had, else with random ones."""
    try:
        return load_backbone(given.backbone, weights_dir=given.weights, cache_dir=folder)
    except TiebreakError as error:
        say(f"random weights: {error}")
    torch.manual_seed(0)
    spec = BACKBONES[given.backbone]
    return Backbone(spec.name, f"{spec.name}-random", spec.width, SIDE, spec.build().eval())


def frozen(network: nn.Module) -> nn.Module:
    """A copy that learns, as torchvision makes it, but for its normalisations."""
    copied = trainable_copy(network).train()
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return copied


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All ways, round by round."""
    device = choose_device(given.device)
    paths = photos(given.images, given.rows)
    copies = WorkingCopies(folder / "copies", COPY_SIDE)
    digests = [copies.put(path.read_bytes()) for path in paths]
    backbone = made_backbone(given, folder)
    ours = Ours(backbone, copies, digests, given)
    half = ours.learner.number_type
    fused = frozen(backbone.network)
    fuse_frozen(fused, SIDE)
    if device.type == "cpu":
        spare_slow_kernels(fused)
    limit = Limit(Steps(fused, device, half), given.batch)
    plain = Limit(Steps(frozen(backbone.network), device, half), given.batch)
    usual = Usual(Steps(frozen(backbone.network), device, None), paths)
    sizes = [min(given.batch, given.rows - at) for at in range(0, given.rows, given.batch)]
    reading, clock = Clock(device), Clock(device)
    reading("reading", lambda _: ours.pictures.read_all(lambda _: None), sizes)
    ways = {"limit": limit, "ours": ours, "plain_limit": plain, "usual": usual}
    for work in ways.values():  # kernels are chosen, memory is had
        work(sizes[:1])
    for turn in range(given.rounds):
        for name, work in ways.items():
            clock(name, work, sizes)
        clock("judging", ours.judge, sizes)
        clock("augmentation", ours.augment, sizes)
        say(f"round {turn + 1}: {clock.wall['ours'][-1] * 1000:.1f} ms an image")
    clock.wall |= reading.wall
    clock.processor |= reading.processor
    return {
        "backbone": backbone.identity,
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "number_type": str(half or torch.float32),
        "images": given.rows,
        "batch": given.batch,
        **summary(clock),
    }


def summary(clock: Clock) -> dict[str, Any]:
    """Medians of the rounds."""
    wall, processor = (
        {name: float(np.median(seconds)) for name, seconds in each.items()}
        for each in (clock.wall, clock.processor)
    )
    return {
        "wall_ms": {name: round(1000 * seconds, 2) for name, seconds in wall.items()},
        "processor_ms": {name: round(1000 * seconds, 2) for name, seconds in processor.items()},
        "images_per_second": {name: round(1 / seconds, 1) for name, seconds in wall.items()},
        "share_of_limit": round(wall["limit"] / wall["ours"], 3),
        "share_of_limit_by_processor": round(processor["limit"] / processor["ours"], 3),
        "share_of_plain_limit": round(wall["plain_limit"] / wall["ours"], 3),
        "share_of_plain_limit_by_processor": round(processor["plain_limit"] / processor["ours"], 3),
        "times_usual": round(wall["usual"] / wall["ours"], 1),
        "times_usual_by_processor": round(processor["usual"] / processor["ours"], 1),
    }


def as_the_product() -> None:
    """Start anew with the threads and the memory of a fine-tune's process, once."""
    if "FINETUNE_SPEED" not in os.environ:
        command = [sys.executable, "-m", "benchmarks.finetune_speed", *sys.argv[1:]]
        os.execve(sys.executable, command, {**environment(), "FINETUNE_SPEED": "1"})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with photos")
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default="mobilenet_v2")
    parser.add_argument("--weights", type=Path, help="folder with weights files")
    parser.add_argument("--rows", type=int, default=96, help="photos of an epoch")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="threads that read ahead")
    parser.add_argument("--device", help="cpu or cuda; by default a GPU where there is one")
    parser.add_argument("--threads", type=int, help="of torch; by default as a fine-tune")
    parser.add_argument("--json", action="store_true", help="the only form there is")
    given = parser.parse_args()
    as_the_product()
    if given.threads:
        torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        report(measure(given, Path(folder)))


if __name__ == "__main__":
    main()
