"""Networks that train from scratch, to compare transfer learning with. No weights exist for them.

``alexnet_bn``  Krizhevsky, Sutskever and Hinton (2012), figure 2, in its size: five convolutions
                of 96, 256, 384, 384 and 256 filters, two dense layers of 4,096 with dropout, 227
                pixels in. Batch norm (Ioffe and Szegedy 2015) takes the place of local response
                normalisation, and the convolutions are whole: two groups were for two GPUs.
``small_cnn``   three blocks in the manner of VGG (Simonyan and Zisserman 2015), of 64, 128 and
                256 filters: two 3×3 convolutions with batch norm, a 2×2 maximum, dropout; then
                the average over the picture.

Both give embeddings as the pretrained ones do, so the same code trains them below a linear head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from model.backbones import LARGEST_INPUT, Backbone
from model.errors import ArgumentError


@dataclass(frozen=True)
class ScratchSpec:
    """A network by name: its usual and its smallest input in pixels, numbers per embedding."""

    width: int
    input_size: int
    smallest: int
    build: Callable[[], nn.Sequential]


def alexnet_bn() -> nn.Sequential:
    """(n, 3, s, s) -> (n, 4096)."""
    pool = nn.MaxPool2d(3, stride=2)
    return nn.Sequential(
        *_convolution(3, 96, 11, stride=4),
        pool,
        *_convolution(96, 256, 5, padding=2),
        pool,
        *_convolution(256, 384, 3, padding=1),
        *_convolution(384, 384, 3, padding=1),
        *_convolution(384, 256, 3, padding=1),
        pool,
        # 6×6 already at 227 pixels.
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        *_dense(256 * 6 * 6, 4096),
        *_dense(4096, 4096),
    )


def small_cnn() -> nn.Sequential:
    """(n, 3, s, s) -> (n, 256)."""
    layers: list[nn.Module] = []
    channels = 3
    for filters, dropout in ((64, 0.2), (128, 0.3), (256, 0.4)):
        layers += _convolution(channels, filters, 3, padding=1)
        layers += _convolution(filters, filters, 3, padding=1)
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


SCRATCH: dict[str, ScratchSpec] = {
    "alexnet_bn": ScratchSpec(4096, 227, 67, alexnet_bn),
    "small_cnn": ScratchSpec(256, 32, 8, small_cnn),
}


def build_scratch(name: str, seed: int, *, input_size: int | None = None) -> Backbone:
    """The network ``name``, untrained, in evaluation mode, every parameter open to training.

    Convolutions and dense layers start as He et al. (2015), *Delving Deep into Rectifiers*, have
    it, drawn from ``seed``; the global generator is left alone. ``input_size`` is 227 pixels for
    ``alexnet_bn`` and 32 for ``small_cnn`` by default. The identity, ``small_cnn-scratch-32px``,
    names no weights, so embeddings under it are not for keeping.

    :class:`ArgumentError` for an unknown ``name`` and an ``input_size`` outside 67 (AlexNet) or 8
    (the small one) to 512.
    """
    if name not in SCRATCH:
        raise ArgumentError(f"name={name!r}; one of {', '.join(SCRATCH)} is allowed.")
    spec = SCRATCH[name]
    side = spec.input_size if input_size is None else input_size
    if not spec.smallest <= side <= LARGEST_INPUT:
        raise ArgumentError(
            f"input_size={side}; {spec.smallest} to {LARGEST_INPUT} pixels is allowed for {name}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = spec.build()
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return Backbone(name, f"{name}-scratch-{side}px", spec.width, side, network.eval())


def _convolution(
    given: int, filters: int, size: int, *, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    # The batch norm's shift makes a bias of the convolution needless.
    convolution = nn.Conv2d(given, filters, size, stride=stride, padding=padding, bias=False)
    return [convolution, nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]


def _dense(given: int, wanted: int) -> list[nn.Module]:
    return [nn.Linear(given, wanted), nn.ReLU(inplace=True), nn.Dropout(0.5)]
