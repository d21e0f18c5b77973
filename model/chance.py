"""torch's own chance, drawn from a seed for as long as somebody needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(device: torch.device, seed: tuple[int, ...]) -> Iterator[None]:
    """torch's global generators start from ``seed`` within the block and are put back after it.

    On a GPU the kernels are those that add up in a fixed order.
    """
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    devices = [device] if device.type == "cuda" else []
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=True
    )
    with torch.random.fork_rng(devices=devices), flags:
        torch.manual_seed(number)
        yield
