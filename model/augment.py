"""Random changes to training images that leave their class as it is.

They are made to a whole batch at once, where the batch lies: on a GPU in passing, on a CPU in less
time than picture by picture. Chance is handed in as numbers, so that what becomes of a picture
depends on its own numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import ArgumentError

AugmentationName = Literal["auto", "photos", "any-way-up", "characters", "none"]
AUGMENTATIONS: Final[tuple[AugmentationName, ...]] = get_args(AugmentationName)

DEGREES = 10.0
SHIFT = 0.1
ZOOM = 0.15
COLOUR = 0.2
MOST_STRENGTH = 3.0
# What rotation and shift uncover is filled with ImageNet's mean colour, which is zero to a network.
FILL: Final = (124, 116, 104)
# How bright a colour is: ITU-R BT.601.
LUMINANCE: Final = (0.299, 0.587, 0.114)
CHANCES: Final = 9
"""Numbers of chance that a changed picture takes."""

Chances = NDArray[np.float64]
"""(n, CHANCES), uniform on [0, 1)."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image, all of it at random.

    ``mirror``      left and right are exchanged, half of the time
    ``any_way_up``  also turned upside down and by quarter turns
    ``degrees``     rotated by up to as many, either way
    ``shift``       moved by up to this share of its side, in both directions
    ``zoom``        made smaller or larger by up to this share
    ``colour``      brightness, contrast and saturation changed by up to this share
    """

    name: AugmentationName
    mirror: bool = False
    any_way_up: bool = False
    degrees: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    colour: float = 0.0

    @torch.no_grad()
    def changed(self, pictures: torch.Tensor, chances: Chances) -> torch.Tensor:
        """Changed copies of (n, 3, s, s) uint8 pictures, on their device; channels last in memory.

        Equal ``chances`` of a picture give equal copies of it, whatever the others of the batch.
        """
        moves = self.mirror or self.any_way_up or self.degrees or self.shift or self.zoom
        if not (moves or self.colour):
            return pictures
        fill = torch.tensor(FILL, dtype=torch.float32, device=pictures.device)
        # About the colour that is filled in: what lies outside is zero then.
        seen = pictures.float().sub_(fill.view(1, 3, 1, 1))
        if moves:
            seen = _moved(seen, self._places(chances))
        if self.colour:
            seen = _coloured(seen, fill, _either_way(self.colour, chances[:, 6:9]))
        seen = seen.add_(fill.view(1, 3, 1, 1)).round_().clamp_(0, 255)
        return seen.to(torch.uint8, memory_format=torch.channels_last)

    def _places(self, chances: Chances) -> NDArray[np.float32]:
        """(n, 2, 3) maps from where a pixel is after the change to where it was, both counted from
        the middle of the picture in halves of its side."""
        n = len(chances)
        mirrored = np.where((chances[:, 0] < 0.5) & self.mirror, -1.0, 1.0)
        quarters = np.floor(4 * chances[:, 1]) * self.any_way_up
        zoom = 1 + self.zoom * (2 * chances[:, 5] - 1)
        angle = np.radians(90 * quarters + self.degrees * (2 * chances[:, 2] - 1))
        # What is exact stays so: quarter turns move whole pixels.
        cosine, sine = np.cos(angle), np.sin(angle)
        back = np.empty((n, 2, 2))
        back[:, 0, 0], back[:, 0, 1] = mirrored * cosine / zoom, mirrored * sine / zoom
        back[:, 1, 0], back[:, 1, 1] = -sine / zoom, cosine / zoom
        shift = 2 * self.shift * (2 * chances[:, 3:5] - 1)
        return np.concatenate(
            [back, -back @ shift[:, :, None]], axis=2, dtype=np.float32, casting="same_kind"
        )


def _moved(pictures: torch.Tensor, places: NDArray[np.float32]) -> torch.Tensor:
    maps = torch.from_numpy(places).to(pictures.device, non_blocking=True)
    grid = torch.nn.functional.affine_grid(maps, list(pictures.shape), align_corners=False)
    return torch.nn.functional.grid_sample(
        pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )


def _either_way(most: float, chances: Chances) -> NDArray[np.float64]:
    """Factors from 1 - ``most``, at least 0, to 1 + ``most``."""
    least = max(0.0, 1 - most)
    return least + (1 + most - least) * chances


def _coloured(
    pictures: torch.Tensor, fill: torch.Tensor, factors: NDArray[np.float64]
) -> torch.Tensor:
    """Brightness b, contrast c and saturation t of (n, 3, s, s) colours counted from ``fill``,
    changed by (n, 3) factors.

    A colour x becomes b x, then c (b x) + (1 - c) m with the mean luminance m of the picture, then
    t times that and 1 - t times its own luminance: one linear map. It is not cut to what a colour
    can be in between, only at the end.
    """
    n = len(pictures)
    bright, contrast, saturation = (
        torch.from_numpy(factors.astype(np.float32)).to(pictures.device).unbind(1)
    )
    weights = torch.tensor(LUMINANCE, device=pictures.device)
    grey = (1 - saturation).view(n, 1, 1) * weights
    maps = saturation.view(n, 1, 1) * torch.eye(3, device=pictures.device) + grey
    maps = (bright * contrast).view(n, 1, 1) * maps
    mean = (pictures.mean(dim=(2, 3)) + fill) @ weights
    offset = maps @ fill - fill + ((1 - contrast) * bright * mean).view(n, 1)
    flat = pictures.reshape(n, 3, -1)
    return torch.baddbmm(offset.view(n, 3, 1), maps, flat).view(pictures.shape)


def augmentation(name: AugmentationName, strength: float = 1.0) -> Augmentation:
    """The augmentation of that name; ``strength`` in [0, 3] scales all but mirroring and turning.

    ``photos``      mirror, shift, rotation, zoom, colour: things seen from the side
    ``any-way-up``  the same, and every way up: seen from above, through a microscope
    ``characters``  no mirror and half the rotation: digits, letters, signs, left and right hands
    ``none``        nothing

    ArgumentError for another name, for ``auto`` (which a fine-tune resolves from the images, see
    :func:`model.finetune.finetune`) and for a strength that is not allowed.
    """
    if name not in AUGMENTATIONS or name == "auto":
        allowed = ", ".join(known for known in AUGMENTATIONS if known != "auto")
        raise ArgumentError(f"name={name!r}; one of {allowed} is allowed.")
    if not 0 <= strength <= MOST_STRENGTH:
        raise ArgumentError(f"strength={strength!r}; 0 to {MOST_STRENGTH:g} is allowed.")
    if name == "none":
        return Augmentation("none")
    characters = name == "characters"
    return Augmentation(
        name,
        mirror=not characters,
        any_way_up=name == "any-way-up",
        degrees=DEGREES * strength / (2 if characters else 1),
        shift=SHIFT * strength,
        zoom=ZOOM * strength,
        colour=COLOUR * strength,
    )


def draw_chances(n: int, seed: tuple[int, ...]) -> Chances:
    """(n, CHANCES), the same for equal seeds."""
    return np.random.default_rng(seed).random((n, CHANCES))
