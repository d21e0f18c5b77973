"""A network on a CPU or GPU by torch itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from model.devices import half_precision
from model.normalise import Normalise

logger = logging.getLogger(__name__)


class TorchRuntime:
    """Runs one network on one device, in 16 bits where the device has fast ones.

    The network is moved to the device in place. ``batch_size``: images per forward pass; halved
    for good when GPU memory runs out. Threads that share it take turns.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device, batch_size: int) -> None:
        self.batch_size = batch_size
        self._device = device
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._half = half_precision(device)
        self._normalise = Normalise(device)
        self._turn = threading.Lock()

    def run(self, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """n pictures, 1 or more, of (s, s, 3) uint8 -> (n, width)."""
        return self._in_turn(squares, self._half)

    def run_in_32_bits(self, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The same without rounding to 16 bits."""
        return self._in_turn(squares, None)

    def _in_turn(
        self, squares: Iterable[NDArray[np.uint8]], half: torch.dtype | None
    ) -> NDArray[np.float32]:
        pixels = np.stack(list(squares))
        with self._turn:
            return self._within_memory(pixels, half)

    def _within_memory(
        self, pixels: NDArray[np.uint8], half: torch.dtype | None
    ) -> NDArray[np.float32]:
        try:
            return self._forward(pixels, half)
        except torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise
        # Outside the handler: the error it held keeps the failed pass's memory alive.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        middle = (len(pixels) + 1) // 2
        self.batch_size = min(self.batch_size, middle)
        logger.warning("GPU memory ran out; batches are now of %d images", self.batch_size)
        return np.concatenate(
            [self._within_memory(part, half) for part in (pixels[:middle], pixels[middle:])]
        )

    @torch.inference_mode()
    def _forward(self, pixels: NDArray[np.uint8], half: torch.dtype | None) -> NDArray[np.float32]:
        # The permuted view of channels-last pixels is channels-last already: no copy.
        inputs = self._normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        with torch.autocast(self._device.type, dtype=half, enabled=half is not None):
            embeddings: torch.Tensor = self._network(inputs)
        found: NDArray[np.float32] = embeddings.float().cpu().numpy()
        return found
