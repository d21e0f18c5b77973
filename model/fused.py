"""Convolutions that do the frozen normalisation behind them as well: the same function, for less.

A batch normalisation that keeps its statistics is a scale and a shift of each channel, and so is
part of the convolution before it: one pass over the maps in place of two, forwards and backwards,
and half of the maps to remember. Weights, scales and shifts stay parameters of their own under
their own names, and get the gradients that they would get.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import nn

logger = logging.getLogger(__name__)

AGREEMENT = 1e-3
"""Most that outputs may differ from those of the network as it was, as a share of the largest."""

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


class FusedConvolution(nn.Conv2d):
    """A convolution, and the frozen normalisation after it where there is one."""

    # In a tuple, so that its parameters are not listed here a second time.
    after: tuple[nn.BatchNorm2d, ...] = ()
    in_32_bits = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, filters, h', w'), normalised."""
        weight, bias = self._weights()
        if not self.in_32_bits:
            maps: torch.Tensor = self._conv_forward(inputs, weight, bias)
            return maps
        with torch.autocast(inputs.device.type, enabled=False):
            maps = self._conv_forward(inputs.float(), weight, bias)
        return maps.to(inputs.dtype)

    def _weights(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        weight, bias = self.weight, self.bias
        for norm in self.after:
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None
            assert variance is not None
            scale = norm.weight * torch.rsqrt(variance + norm.eps)
            weight = weight * scale.view(-1, 1, 1, 1)
            bias = norm.bias + ((0 if bias is None else bias) - mean) * scale
        return weight, bias


class DoneBefore(nn.BatchNorm2d):
    """A normalisation that the convolution before it has done."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The inputs."""
        return inputs


def fuse_frozen(network: nn.Module, side: int) -> int:
    """Fuse the normalisations of ``network`` that directly follow a convolution, in place; how
    many. From then on all of them keep their statistics.

    ``side``  of a square input. One of noise goes through before and after; when the outputs
              differ, the network stays as it was, and the log says so.
    """
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((1, 3, side, side), generator=generator)
    modes = {module: module.training for module in network.modules()}
    network.eval()
    with torch.inference_mode():
        pairs, before = _pairs(network, example)
        for convolution, norm in pairs:
            _become_fused(convolution)
            convolution.after = (norm,)  # type: ignore[assignment]
            norm.__class__ = DoneBefore
        after = network(example)
        bound = AGREEMENT * before.abs().max()
        if not bool((after - before).abs().max() <= bound):
            logger.warning("frozen normalisations are not fused: the outputs would differ")
            _part(pairs)
            pairs = ()
    for module, mode in modes.items():
        module.training = mode
    return len(pairs)


def spare_slow_kernels(network: nn.Module) -> int:
    """On CPUs: run depthwise convolutions with a stride in 32 bits, in place; how many.

    The gradients of those have no fast kernel in 16 bits there: they take 3 to 50 times as long.
    """
    slow = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1 and max(module.stride) > 1
    ]
    for module in slow:
        _become_fused(module)
        module.in_32_bits = True  # type: ignore[assignment]
    return len(slow)


def _become_fused(convolution: nn.Conv2d) -> None:
    convolution.__class__ = FusedConvolution


def _part(pairs: Sequence[Pair]) -> None:
    for convolution, norm in pairs:
        convolution.__class__, norm.__class__ = nn.Conv2d, nn.BatchNorm2d


def _pairs(network: nn.Module, example: torch.Tensor) -> tuple[Sequence[Pair], torch.Tensor]:
    """Each convolution with the normalisation that got what it made; the network's output."""
    last: list[tuple[torch.Tensor, nn.Conv2d]] = []
    pairs: list[Pair] = []

    def note(module: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        last[:] = [(output, module)]

    def match(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if last and last[0][0] is inputs[0]:
            pairs.append((last[0][1], module))

    hooks = [
        module.register_forward_hook(note)
        if type(module) is nn.Conv2d
        else module.register_forward_pre_hook(match)
        for module in network.modules()
        if type(module) is nn.Conv2d or _has_statistics(module)
    ]
    try:
        output: torch.Tensor = network(example)
    finally:
        for hook in hooks:
            hook.remove()
    used = [module for pair in pairs for module in pair]
    # A layer that is used twice is two layers to this.
    return [pair for pair in pairs if all(used.count(each) == 1 for each in pair)], output


def _has_statistics(module: nn.Module) -> bool:
    return type(module) is nn.BatchNorm2d and module.affine and module.track_running_stats
