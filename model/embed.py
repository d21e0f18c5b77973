"""Images in, embeddings out, as fast as this machine's CPU or GPU allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.backbones import Backbone
from model.devices import choose_device, half_precision
from model.errors import ArgumentError, WeightsError

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
CPU_BATCH: Final = 32
GPU_BATCH: Final = 256

logger = logging.getLogger(__name__)


class Embedder:
    """Embeds images with one backbone on one device.

    The whole picture is resized to the backbone's square input (bilinear, antialiased; the
    aspect ratio is not kept, so that nothing at an edge is lost) and normalised with ImageNet's
    mean and standard deviation. On CPUs with bfloat16 instructions and on GPUs the network runs
    in 16 bits. An image's embedding depends on the other images of its batch by rounding only.

    The backbone's network is moved to the device in place.

    ``device``      ``cpu``, ``cuda``, ``cuda:1`` …; by default a GPU where there is one
    ``batch_size``  images per forward pass; halved for good when GPU memory runs out

    :class:`ArgumentError` for a device that is not there or a ``batch_size`` below 1.
    """

    def __init__(
        self, backbone: Backbone, *, device: str | None = None, batch_size: int | None = None
    ) -> None:
        self.identity = backbone.identity
        self.width = backbone.width
        self.device = choose_device(device)
        if batch_size is not None and batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size}; 1 or more is allowed.")
        self.batch_size = batch_size or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self._input_size = backbone.input_size
        network = backbone.network.eval().to(self.device)
        self._network = network.to(memory_format=torch.channels_last)
        self._half = half_precision(self.device)
        self._normalise = Normalise(self.device)

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float16]:
        """(n, width) float16, finite, in the order of ``images``, which may be of any size.

        Modes other than RGB are converted. No images give (0, width). :class:`ArgumentError`
        names the position of anything that is not an image with pixels.
        """
        embeddings = np.empty((len(images), self.width), dtype=np.float16)
        done = 0
        while done < len(images):
            batch = images[done : done + self.batch_size]
            pixels = np.stack(
                [square_pixels(image, self._input_size, done + i) for i, image in enumerate(batch)]
            )
            embeddings[done : done + len(batch)] = self._forward_within_memory(pixels)
            done += len(batch)
        return embeddings

    def _forward_within_memory(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        try:
            return self._forward(pixels)
        except torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise
        # Outside the handler: the error it held keeps the failed pass's memory alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = (len(pixels) + 1) // 2
        self.batch_size = min(self.batch_size, half)
        logger.warning("GPU memory ran out; batches are now of %d images", self.batch_size)
        return np.concatenate(
            [self._forward_within_memory(part) for part in (pixels[:half], pixels[half:])]
        )

    def _forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        """(n, s, s, 3) uint8 -> (n, width) float16."""
        # The permuted view of channels-last pixels is channels-last already: no copy.
        inputs = self._normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        embeddings = self._run(inputs, self._half)
        if self._half is not None and not bool(torch.isfinite(embeddings).all()):
            embeddings = self._run(inputs, None)
        if not bool(torch.isfinite(embeddings).all()):
            raise WeightsError(f"{self.identity} gives embeddings that are not finite.")
        limit = torch.finfo(torch.float16).max
        result: NDArray[np.float16] = embeddings.clamp(-limit, limit).half().cpu().numpy()
        return result

    @torch.inference_mode()
    def _run(self, inputs: torch.Tensor, half: torch.dtype | None) -> torch.Tensor:
        with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
            embeddings: torch.Tensor = self._network(inputs)
        return embeddings.float()


class Normalise:
    """ImageNet's mean and standard deviation, on one device."""

    def __init__(self, device: torch.device) -> None:
        self._shift = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._scale = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) uint8 -> float32 on the device, zero mean and unit variance."""
        return pixels.to(self._shift.device).float().sub_(self._shift).div_(self._scale)


def square_pixels(image: Image.Image, side: int, position: int) -> NDArray[np.uint8]:
    """(side, side, 3) uint8, as a network sees an image.

    ArgumentError names ``position`` when it is not an image with pixels.
    """
    if not isinstance(image, Image.Image):
        raise ArgumentError(f"images[{position}] is a {type(image).__name__}, not an image.")
    if 0 in image.size:
        raise ArgumentError(f"images[{position}] has no pixels: its size is {image.size}.")
    picture = image if image.mode == "RGB" else image.convert("RGB")
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(picture)
