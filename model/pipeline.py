"""Backbone and heads as one network: pixels in, calibrated probabilities out.

It does what an :class:`model.embed.Embedder` and the heads do one after the other, in float32
throughout. An Embedder keeps embeddings as float16, and where a CPU or GPU has the instructions it
runs the backbone in 16 bits, so its probabilities differ by that rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from model.embed import IMAGENET_MEAN, IMAGENET_STD
from model.errors import ArgumentError
from model.head import Head


class Pipeline(torch.nn.Module):
    """From (n, s, s, 3) uint8 RGB images to (n, k) float32 probabilities, one array per head.

    ``network``  (n, 3, s, s) float32 ImageNet-normalised -> (n, width)
    ``heads``    control -> head; the outputs are in this order

    :class:`ArgumentError` without a head.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: torch.nn.Module, heads: Mapping[str, Head]) -> None:
        super().__init__()
        if not heads:
            raise ArgumentError("heads is empty; one is needed.")
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.backbone = network
        self.heads = torch.nn.ModuleList(LinearHead(head) for head in heads.values())
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        embeddings = self.backbone((pixels - self.mean) / self.deviation)
        rows = power_normalised(embeddings)
        return tuple(head(rows) for head in self.heads)


class LinearHead(torch.nn.Module):
    """A :class:`model.head.Head` on rows that are power-normalised already.

    ``weights`` (width, k), ``bias`` (k,), ``temperature`` (1,) or with ``multiple`` (k,): as there.
    """

    weights: Tensor
    bias: Tensor
    temperature: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.multiple = head.multiple
        self.register_buffer("weights", torch.tensor(head.weights))
        self.register_buffer("bias", torch.tensor(head.bias))
        self.register_buffer("temperature", torch.tensor(head.temperature))

    def forward(self, rows: Tensor) -> Tensor:
        logits = (rows @ self.weights + self.bias) / self.temperature
        return torch.sigmoid(logits) if self.multiple else torch.softmax(logits, dim=1)


def power_normalised(embeddings: Tensor) -> Tensor:
    """:func:`model.head.power_normalise` for tensors: (n, d) float32 -> (n, d) float32."""
    rooted = torch.sign(embeddings) * torch.sqrt(torch.abs(embeddings))
    lengths = torch.sqrt(torch.sum(rooted * rooted, dim=1, keepdim=True))
    return rooted / torch.where(lengths > 0, lengths, torch.ones_like(lengths))
