"""Explanations as pictures: transparent layers that lie over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from model.errors import ArgumentError

OPAQUE = 0.85
"""How much of the image the strongest place hides."""
# Told apart by people who cannot tell red from green.
FOR, AGAINST = (23, 105, 224), (230, 92, 0)
# From faint to strong: purple, red, orange, yellow.
_HEAT = np.array([[80, 18, 123], [190, 55, 82], [245, 125, 21], [252, 240, 130]], dtype=float)


def heat_layer(heat: ArrayLike) -> Image.Image:
    """(h, w) heat in [0, 1] -> an RGBA picture, clear where the heat is 0.

    ArgumentError when it has another shape, or a value is NaN or outside [0, 1].
    """
    values = _grid("heat", heat)
    if not ((values >= 0) & (values <= 1)).all():
        raise ArgumentError("heat has values outside [0, 1].")
    stops = np.linspace(0, 1, len(_HEAT))
    colours = [np.interp(values, stops, _HEAT[:, channel]) for channel in range(3)]
    return _layer(np.stack(colours, axis=-1), values)


def weight_layer(weights: ArrayLike) -> Image.Image:
    """(h, w) signed weights -> an RGBA picture: blue speaks for, orange against.

    The largest weight, of either sign, is the strongest place. ArgumentError when it has another
    shape or a value is not finite.
    """
    values = _grid("weights", weights)
    if not np.isfinite(values).all():
        raise ArgumentError("weights has values that are not finite.")
    largest = np.abs(values).max()
    strength = np.abs(values) / largest if largest > 0 else np.zeros_like(values)
    return _layer(np.where(values[..., None] > 0, FOR, AGAINST), strength)


def laid_over(image: Image.Image, layer: Image.Image) -> Image.Image:
    """``image`` under a layer, which is stretched to its size, as an RGB picture."""
    stretched = layer.resize(image.size, Image.Resampling.BILINEAR)
    return Image.alpha_composite(image.convert("RGBA"), stretched).convert("RGB")


def _grid(name: str, values: ArrayLike) -> NDArray[np.float64]:
    grid = np.asarray(values, dtype=np.float64)
    if grid.ndim != 2 or grid.size == 0:
        raise ArgumentError(f"{name} has shape {grid.shape}; (h, w) is needed.")
    return grid


def _layer(colours: NDArray[np.generic], strength: NDArray[np.float64]) -> Image.Image:
    alpha = (255 * OPAQUE * strength)[..., None]
    return Image.fromarray(np.concatenate([colours, alpha], axis=-1).round().astype(np.uint8))
