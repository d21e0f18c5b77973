"""Images in, embeddings out, as fast as this machine's CPU or GPU allows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.backbones import Backbone
from model.devices import choose_device
from model.errors import ArgumentError, WeightsError
from model.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise
from model.torch_runtime import TorchRuntime

__all__ = [
    "CPU_BATCH",
    "GPU_BATCH",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Embedder",
    "Normalise",
    "RuntimeName",
    "square_pixels",
]

CPU_BATCH: Final = 32
GPU_BATCH: Final = 256
LIMIT: Final = float(np.finfo(np.float16).max)
GAP: Final = 3.0

RuntimeName = Literal["auto", "openvino", "torch"]

logger = logging.getLogger(__name__)


class Runtime(Protocol):
    """What runs a network: pictures of (s, s, 3) uint8 in, (n, width) float32 out."""

    def run(self, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """In fewer bits than 32 where that is faster."""

    def run_in_32_bits(self, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """As exact as the network is."""


class Embedder:
    """Embeds images with one backbone on one device.

    The whole picture is resized to the backbone's square input (bilinear, antialiased; the
    aspect ratio is not kept, so that nothing at an edge is lost) and normalised with ImageNet's
    mean and standard deviation. On CPUs with bfloat16 instructions and on GPUs the network runs
    in 16 bits, and most of a ResNet in 8 on CPUs with fast 8-bit products. An image's embedding
    depends on the other images of its batch by rounding only, and on which runtime computes it.

    The backbone's network is moved to the device in place. It is got ready at the first image, and
    later changes of its weights may not be followed. Threads may share an embedder.

    ``device``      ``cpu``, ``cuda``, ``cuda:1`` …; by default a GPU where there is one
    ``batch_size``  images in hand at a time; halved for good when GPU memory runs out
    ``runtime``     ``auto``: OpenVINO on a CPU, torch where OpenVINO is missing or cannot run the
                    network, which is logged, and on a GPU

    :class:`ArgumentError` for a device that is not there, a ``batch_size`` below 1, and for
    ``openvino`` on a GPU.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: str | None = None,
        batch_size: int | None = None,
        runtime: RuntimeName = "auto",
    ) -> None:
        self.identity = backbone.identity
        self.width = backbone.width
        self.input_size = backbone.input_size
        self.device = choose_device("cpu" if runtime == "openvino" and not device else device)
        if runtime == "openvino" and self.device.type != "cpu":
            raise ArgumentError(f"runtime={runtime!r} on device={device!r}; cpu is allowed.")
        if batch_size is not None and batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size}; 1 or more is allowed.")
        self._batch_size = batch_size or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self._wanted = runtime
        self._network = backbone.network.eval().to(self.device)
        self._runtime: Runtime | None = None
        self._loading = threading.Lock()

    @property
    def batch_size(self) -> int:
        """How many images are in hand at a time."""
        if isinstance(self._runtime, TorchRuntime):
            return self._runtime.batch_size
        return self._batch_size

    @property
    def runtime(self) -> str:
        """``openvino`` or ``torch``: what runs the network. Gets it ready."""
        return "torch" if isinstance(self._ready(), TorchRuntime) else "openvino"

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float16]:
        """(n, width) float16, finite, in the order of ``images``, which may be of any size.

        Modes other than RGB are converted. No images give (0, width). :class:`ArgumentError`
        names the position of anything that is not an image with pixels.
        """
        embeddings = np.empty((len(images), self.width), dtype=np.float16)
        done = 0
        while done < len(images):
            batch = images[done : done + self.batch_size]
            embeddings[done : done + len(batch)] = self._embed(
                partial(_squares, batch, self.input_size, done)
            )
            done += len(batch)
        return embeddings

    def embed_both_ways(
        self, images: Sequence[Image.Image]
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """:meth:`embed`, and the same of the images with left and right exchanged, each of which is
        resized once. Their mean is the average over the two at test time."""
        found = np.empty((2, len(images), self.width), dtype=np.float16)
        done = 0
        while done < len(images):
            batch = images[done : done + self.batch_size]
            squares = list(_squares(batch, self.input_size, done))
            flipped = [np.ascontiguousarray(square[:, ::-1]) for square in squares]
            for way, pixels in enumerate((squares, flipped)):
                found[way, done : done + len(batch)] = self._embed(partial(iter, pixels))
            done += len(batch)
        own, mirrored = found
        return own, mirrored

    def _embed(self, squares: Callable[[], Iterable[NDArray[np.uint8]]]) -> NDArray[np.float16]:
        """Of a batch, whose pixels may be asked for twice."""
        runtime = self._ready()
        found = runtime.run(squares())
        if not np.isfinite(found).all():
            found = runtime.run_in_32_bits(squares())
        if not np.isfinite(found).all():
            raise WeightsError(f"{self.identity} gives embeddings that are not finite.")
        return np.clip(found, -LIMIT, LIMIT).astype(np.float16)

    def _ready(self) -> Runtime:
        with self._loading:
            if self._runtime is None:
                self._runtime = self._openvino() or TorchRuntime(
                    self._network, self.device, self._batch_size
                )
            return self._runtime

    def _openvino(self) -> Runtime | None:
        """OpenVINO's, where it is wanted and can be had."""
        if self._wanted == "torch" or self.device.type != "cpu":
            return None
        from model.openvino_runtime import CannotRun, OpenVinoRuntime

        try:
            return OpenVinoRuntime(self._network, self.input_size, self.width)
        except CannotRun as error:
            if self._wanted == "openvino":
                raise ArgumentError(
                    f"runtime='openvino' cannot run {self.identity}: {error}."
                ) from error
            logger.warning("OpenVINO cannot run %s, torch does: %s", self.identity, error)
            return None


def _squares(images: Sequence[Image.Image], side: int, start: int) -> Iterator[NDArray[np.uint8]]:
    for position, image in enumerate(images, start):
        yield square_pixels(image, side, position)


def square_pixels(image: Image.Image, side: int, position: int) -> NDArray[np.uint8]:
    """(side, side, 3) uint8, as a network sees an image.

    ArgumentError names ``position`` when it is not an image with pixels.
    """
    if not isinstance(image, Image.Image):
        raise ArgumentError(f"images[{position}] is a {type(image).__name__}, not an image.")
    if 0 in image.size:
        raise ArgumentError(f"images[{position}] has no pixels: its size is {image.size}.")
    picture = image if image.mode == "RGB" else image.convert("RGB")
    if picture.size == (side, side):
        return np.asarray(picture)
    if max(picture.size) > GAP * side:
        picture = picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=GAP)
        return np.asarray(picture)
    # As Pillow does it, a level up or down in two of a hundred numbers, in less than half the time.
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).unsqueeze(0)
    small = torch.nn.functional.interpolate(
        pixels, (side, side), mode="bilinear", antialias=True, align_corners=False
    )
    # numpy puts the colours together in one thread: torch's others would spin in wait for more.
    return np.stack(list(small[0].numpy()), axis=-1)
