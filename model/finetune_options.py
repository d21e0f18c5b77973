"""How a fine-tune goes, checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from model.augment import AUGMENTATIONS, MOST_STRENGTH, AugmentationName
from model.checks import share as checked_share
from model.errors import ArgumentError
from model.optimiser import OptimiserName

BalanceName = Literal["none", "weights", "sampler"]


@dataclass(frozen=True)
class FineTuneOptions:
    """How a fine-tune goes. ArgumentError for a value that is not allowed.

    ``epochs``                 passes over the training rows, at most
    ``batch_size``             images per step; by default from the machine and the rows
    ``backbone_rate``          peak learning rate of the backbone, and ``head_rate`` of the layers
                               on top; both rise over the first ``warmup_share`` of the steps and
                               fall to 0 by half a cosine
    ``weight_decay``           of weights, not of biases and normalisations
    ``momentum``               of ``sgd``; ``adamw`` has its own
    ``label_smoothing``        share of the truth spread over all classes, [0, 1)
    ``mixup``                  alpha of mixup, 0 for none
    ``augmentation``           see :func:`model.augment.augmentation`; ``auto`` mirrors images when
                               the fitted layer knows mirrored ones as well
    ``augmentation_strength``  0 to 3
    ``balance``                ``weights`` counts each class alike in the loss, ``sampler`` shows
                               each alike, ``none`` takes them as they come
    ``validation_share``       share of the rows that is only watched, (0, 0.5]
    ``patience``               epochs without a better result after which it stops
    ``probe_first``            False: plain fine-tuning, the layers on top start at zero
    ``frozen_statistics``      batch normalisations keep the mean and variance of the pretraining
    """

    epochs: int = 12
    batch_size: int | None = None
    backbone_rate: float = 1e-4
    head_rate: float = 1e-3
    weight_decay: float = 0.02
    optimiser: OptimiserName = "adamw"
    momentum: float = 0.9
    warmup_share: float = 0.1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    augmentation: AugmentationName = "auto"
    augmentation_strength: float = 1.0
    balance: BalanceName = "weights"
    validation_share: float = 0.15
    patience: int = 6
    probe_first: bool = True
    frozen_statistics: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        self._at_least("epochs", 1)
        self._at_least("patience", 1)
        self._at_least("seed", 0)
        if self.batch_size is not None:
            self._at_least("batch_size", 2)
        for name in ("backbone_rate", "head_rate", "weight_decay", "mixup"):
            self._at_least(name, 0)
        for name in ("warmup_share", "momentum", "label_smoothing"):
            if checked_share(name, getattr(self, name)) == 1:
                raise ArgumentError(f"{name}=1; below 1 is allowed.")
        if not 0 < self.validation_share <= 0.5:
            raise ArgumentError(f"validation_share={self.validation_share!r}; (0, 0.5] is allowed.")
        if not 0 <= self.augmentation_strength <= MOST_STRENGTH:
            raise ArgumentError(
                f"augmentation_strength={self.augmentation_strength!r}; "
                f"0 to {MOST_STRENGTH:g} is allowed."
            )
        self._one_of("augmentation", AUGMENTATIONS)
        self._one_of("optimiser", get_args(OptimiserName))
        self._one_of("balance", get_args(BalanceName))

    def _at_least(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if not isfinite(value) or value < least:
            raise ArgumentError(f"{name}={value!r}; {least} or more is allowed.")

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        if getattr(self, name) not in allowed:
            raise ArgumentError(
                f"{name}={getattr(self, name)!r}; one of {', '.join(allowed)} is allowed."
            )
