"""The settings of fine-tuning, as the model takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from backend.settings import Settings
from model.finetune_options import FineTuneOptions

TUNED = {
    "optimiser": "finetune_optimiser",
    "backbone_rate": "finetune_backbone_rate",
    "head_rate": "finetune_head_rate",
    "momentum": "finetune_momentum",
    "epochs": "finetune_epochs",
    "weight_decay": "finetune_weight_decay",
    "augmentation_strength": "augmentation_strength",
}
"""What ``tiebreak tune`` looks for: the option's name and the setting's."""


def tuning_options(settings: Settings, **changes: Any) -> FineTuneOptions:
    """The options of a fine-tune from the settings, ``changes`` first.

    ArgumentError for a value that is not allowed.
    """
    known = {option: getattr(settings, name) for option, name in TUNED.items()}
    options = FineTuneOptions(
        augmentation=settings.augmentation,
        balance=settings.class_balance,
        label_smoothing=settings.label_smoothing,
        mixup=settings.mixup,
        seed=settings.seed,
        **known,
    )
    return replace(options, **changes)
