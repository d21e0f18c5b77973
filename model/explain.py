"""An image and a class of a head in, where in the image the head sees the class out.

What is explained is the head's logit of the class, on the embedding as the head reads it: with the
power normalisation of :func:`model.head.power_normalise`. Two ways that share nothing but that:

- LIME (Ribeiro, Singh and Guestrin, *"Why Should I Trust You?"*, 2016): hide superpixels at random,
  ask the network each time, and fit a weighted linear model of what was shown. It needs embeddings
  only, and says what speaks against the class, too.
- Grad-CAM (Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks*, 2017): one pass
  forwards and one backwards through the network.

A head scales each embedding to length 1, so its logit does not change when all of the last maps
grow alike (Euler's theorem on homogeneous functions). Hence the raw map of Grad-CAM sums to zero:
what speaks for the class in one place is always matched by what speaks against it elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.backbones import Backbone
from model.embed import Normalise, square_pixels
from model.errors import ArgumentError
from model.head import Head

Floats = NDArray[np.float32]
Array = NDArray[np.float64]
Embed = Callable[[Sequence[Image.Image]], NDArray[Any]]
"""n images -> (n, d) embeddings, as :meth:`model.embed.Embedder.embed`."""

SAMPLES = 256
SUPERPIXELS = 40
# LIME's own: the width of its kernel over cosine distances, and the ridge's penalty.
_KERNEL_WIDTH = 0.25
_PENALTY = 1.0
_COMPACTNESS = 10.0
_BATCH = 64
# Relative: logits are float32, and batches of another size may round otherwise.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Superpixels:
    """What each part of an image of (h, w) pixels says for a class.

    ``segments``  (h, w) int64: the superpixel of each pixel, 0 to k - 1
    ``weights``   (k,) float64: by how much the logit grows when the superpixel is shown; below 0 it
                  speaks against the class
    ``fit``       R² of the linear model on the samples, weighted as in the fit, at most 1: how far
                  the weights are to be believed. 1 where the logit never changes
    """

    segments: NDArray[np.int64]
    weights: Array
    fit: float

    def weight_map(self) -> Floats:
        """(h, w) float32: each pixel has the weight of its superpixel."""
        return self.weights[self.segments].astype(np.float32)


def lime_superpixels(
    image: Image.Image,
    embed: Embed,
    head: Head,
    position: int,
    *,
    side: int,
    generator: np.random.Generator,
    samples: int = SAMPLES,
    superpixels: int = SUPERPIXELS,
) -> Superpixels:
    """The superpixels of ``image`` for and against class ``position`` of ``head``.

    The superpixels are SLIC's (Achanta et al. 2012), about as many as asked for. Each sample shows
    every superpixel with probability 1/2, and in place of a hidden one the mean colour of the whole
    image: with its own mean, as in LIME's program, a superpixel of one colour could not be hidden.
    Samples weigh sqrt(exp(-d² / 0.25²)), d the cosine distance from the whole image, and the
    ridge's penalty is 1, as there.

    ``embed``    must resize images to ``side`` pixels, the input of the network
    ``samples``  how many images are embedded, the whole one included; 2 or more

    Equal generators give equal results. ArgumentError for a ``position`` that is no class, fewer
    than 2 ``samples`` or ``superpixels``, or an image without pixels.
    """
    _check_position(head, position)
    for name, value in (("samples", samples), ("superpixels", superpixels)):
        if value < 2:
            raise ArgumentError(f"{name}={value}; 2 or more is allowed.")
    pixels = square_pixels(image, side, 0)
    segments = _segments(pixels, superpixels)
    shown = generator.random((samples, int(segments.max()) + 1)) < 0.5
    shown[0] = True
    logits = _logits_of(pixels, segments, shown, embed, head, position)
    weights, fit = weighted_ridge(shown.astype(np.float64), logits, _kernel(shown), _PENALTY)
    stretched = Image.fromarray(segments.astype(np.int32)).resize(
        image.size, Image.Resampling.NEAREST
    )
    return Superpixels(np.asarray(stretched, dtype=np.int64), weights, fit)


def weighted_ridge(
    rows: Array, values: Array, sample_weights: Array, penalty: float
) -> tuple[Array, float]:
    """(n, k) rows and (n,) values -> (k,) coefficients w, and the weighted R² of the fit.

    Minimises Σ sᵢ (yᵢ - b - w·xᵢ)² + penalty·|w|²; the intercept b is not penalised. Values that
    differ by no more than rounding are equal: no coefficients, and a fit of 1.
    """
    share = sample_weights / sample_weights.sum()
    x, y = rows - share @ rows, values - share @ values
    total = float(share @ y**2)
    if total <= (_ROUNDING * np.abs(values).max()) ** 2:
        return np.zeros(x.shape[1]), 1.0
    weighted = x * sample_weights[:, None]
    coefficients = np.linalg.solve(weighted.T @ x + penalty * np.eye(x.shape[1]), weighted.T @ y)
    return coefficients, 1.0 - float(share @ (y - x @ coefficients) ** 2) / total


def grad_cam(backbone: Backbone, head: Head, position: int, image: Image.Image) -> Floats:
    """(h, w) float32 heatmap in [0, 1] over ``image``: where it speaks for class ``position``.

    The positive part of :func:`raw_grad_cam`, stretched over the image and divided by its largest
    value; all zeros where nothing speaks for the class.
    """
    positive = np.maximum(raw_grad_cam(backbone, head, position, image), 0)
    stretched = Image.fromarray(positive).resize(image.size, Image.Resampling.BILINEAR)
    heat = np.asarray(stretched, dtype=np.float32)
    return heat / heat.max() if heat.max() > 0 else heat


def raw_grad_cam(backbone: Backbone, head: Head, position: int, image: Image.Image) -> Floats:
    """(u, v) float32, one number for each cell of the last feature maps A of the network.

    Equation 1 and 2 of the paper without the ReLU: Σₖ αₖ Aₖ, αₖ the mean over the cells of
    ∂ logit / ∂ Aₖ. The last maps are those that the last layer with more than one cell gives.

    ArgumentError for a ``position`` that is no class, a head of another width than the backbone, an
    image without pixels, or a network without such a layer.
    """
    _check_position(head, position)
    if head.weights.shape[0] != backbone.width:
        raise ArgumentError(
            f"head reads {head.weights.shape[0]} numbers; {backbone.identity} gives "
            f"{backbone.width}."
        )
    pixels = torch.from_numpy(square_pixels(image, backbone.input_size, 0).copy())
    device = next((p.device for p in backbone.network.parameters()), torch.device("cpu"))
    inputs = Normalise(device)(pixels.permute(2, 0, 1)[None])
    with torch.enable_grad():
        maps, embedding = _last_maps(backbone.network, inputs.requires_grad_(True))
        (slopes,) = torch.autograd.grad(class_logit(embedding[0], head, position), maps)
    weighed = (slopes.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)[0]
    result: Floats = weighed.detach().float().cpu().numpy()
    return result


def class_logit(embedding: torch.Tensor, head: Head, position: int) -> torch.Tensor:
    """The logit of a class for a (d,) embedding, as :meth:`Head.logits`, differentiable.

    The root's slope is infinite at 0, where it is taken as 0: a channel whose mean is 0 after a
    ReLU is 0 everywhere, and adds nothing to a map.
    """
    weights = torch.from_numpy(np.ascontiguousarray(head.weights[:, position]))
    size = embedding.float().abs()
    there = size > 0
    rooted = torch.where(there, size, 1.0).sqrt() * embedding.float().sign()
    length = torch.where(there, size, 0.0).sum().sqrt()
    scale = torch.where(length > 0, length, 1.0)
    return (rooted / scale) @ weights.to(embedding.device) + float(head.bias[position])


def _last_maps(network: torch.nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last maps with more than one cell, and the embedding that was made from them."""
    found: list[torch.Tensor] = []

    def look(_module: torch.nn.Module, _inputs: object, output: object) -> torch.Tensor | None:
        if not isinstance(output, torch.Tensor) or output.dim() != 4 or output[0, 0].numel() < 2:
            return None
        found[:] = [output]
        # What follows may change its input in place, and would change what was found.
        return output.clone()

    hooks = [part.register_forward_hook(look) for part in network.modules()]
    try:
        embedding = network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ArgumentError("network has no feature maps with more than one cell.")
    return found[0], embedding


def _segments(pixels: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """(s, s) superpixels, numbered from 0 without a gap."""
    # Loaded when it is needed: it takes most of a second.
    from skimage.segmentation import slic

    found = slic(pixels, n_segments=count, compactness=_COMPACTNESS, start_label=0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int64)


def _logits_of(
    pixels: NDArray[np.uint8],
    segments: NDArray[np.int64],
    shown: NDArray[np.bool_],
    embed: Embed,
    head: Head,
    position: int,
) -> Array:
    """(n,) the logit of the class for each of n ways to hide superpixels."""
    mean = pixels.mean(axis=(0, 1)).round().astype(np.uint8)
    logits = []
    for start in range(0, len(shown), _BATCH):
        masks = shown[start : start + _BATCH][:, segments][..., None]
        images = [Image.fromarray(each) for each in np.where(masks, pixels, mean)]
        logits.append(head.logits(embed(images))[:, position])
    return np.concatenate(logits).astype(np.float64)


def _kernel(shown: NDArray[np.bool_]) -> Array:
    """(n,) how much each sample weighs; 1 for the whole image."""
    # The cosine between a row of flags and all ones is the root of the share of ones.
    distances = 1 - np.sqrt(shown.mean(axis=1))
    return np.asarray(np.sqrt(np.exp(-((distances / _KERNEL_WIDTH) ** 2))))


def _check_position(head: Head, position: int) -> None:
    if not 0 <= position < len(head.classes):
        raise ArgumentError(
            f"position={position}; 0 to {len(head.classes) - 1} is allowed, as the head has "
            f"{len(head.classes)} classes."
        )
