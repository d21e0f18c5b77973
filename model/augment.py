"""Random changes to a training image that leave its class as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from torchvision.transforms import v2

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

    def transform(self) -> v2.Transform:
        """(3, s, s) uint8 -> the same, changed. Draws from torch's global generator."""
        steps: list[v2.Transform] = []
        if self.mirror:
            steps.append(v2.RandomHorizontalFlip())
        if self.any_way_up:
            turns = [v2.RandomRotation((angle, angle)) for angle in (90.0, 180.0, 270.0)]
            steps.append(v2.RandomChoice([v2.Identity(), *turns]))
        if self.degrees or self.shift or self.zoom:
            steps.append(
                v2.RandomAffine(
                    self.degrees,
                    translate=(self.shift, self.shift),
                    scale=(1 - self.zoom, 1 + self.zoom),
                    interpolation=v2.InterpolationMode.BILINEAR,
                    fill=list(FILL),
                )
            )
        if self.colour:
            steps.append(v2.ColorJitter(self.colour, self.colour, self.colour))
        return v2.Compose(steps or [v2.Identity()])


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


def augmented(
    picture: torch.Tensor, transform: v2.Transform, seed: tuple[int, ...]
) -> torch.Tensor:
    """A changed copy of a (3, s, s) uint8 picture; equal seeds give equal copies.

    torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
        changed: torch.Tensor = transform(picture)
    return changed
