"""Pixels become what pretrained networks expect."""

from __future__ import annotations

from typing import Final

import torch

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


class Normalise:
    """ImageNet's mean and standard deviation, on one device."""

    def __init__(self, device: torch.device) -> None:
        self._shift = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._scale = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) uint8 -> float32 on the device, zero mean and unit variance."""
        return pixels.to(self._shift.device).float().sub_(self._shift).div_(self._scale)
