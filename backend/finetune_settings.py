"""The settings of fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

OptimiserName = Literal["adamw", "sgd"]
TransferName = Literal["features", "finetune"]
AugmentationName = Literal["auto", "photos", "any-way-up", "characters", "none"]
BalanceName = Literal["none", "weights", "sampler"]


class FineTuneSettings(BaseModel):
    """When the backbone is fine-tuned, and how."""

    transfer: TransferName = Field(
        "finetune", description="Whether the backbone itself is fine-tuned too, when that is due"
    )
    finetune_growth: float = Field(
        1.5, gt=1, description="A fine-tune is due when labels have grown by this since the last"
    )
    finetune_min_per_class: int = Field(
        20, ge=2, description="Labels of every class in use that a fine-tune waits for"
    )
    finetune_epochs: int = Field(
        12, ge=1, le=1000, description="Most passes of a fine-tune over the images"
    )
    finetune_optimiser: OptimiserName = Field(
        "adamw", description="What follows the gradients in a fine-tune"
    )
    finetune_backbone_rate: float = Field(
        1e-4, gt=0, le=10, description="Highest learning rate of the backbone in a fine-tune"
    )
    finetune_head_rate: float = Field(
        1e-3, gt=0, le=10, description="Highest learning rate of the layers on top in a fine-tune"
    )
    finetune_momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of `sgd`")
    finetune_weight_decay: float = Field(
        0.02, ge=0, le=10, description="Weight decay in a fine-tune"
    )
    finetune_nice: int = Field(
        10, ge=0, le=19, description="How far a fine-tune stands back for everything else"
    )
    augmentation: AugmentationName = Field(
        "auto", description="How a fine-tune may change images without changing their class"
    )
    augmentation_strength: float = Field(
        1.0, ge=0, le=3, description="Scales every random change to images but mirrors and turns"
    )
    class_balance: BalanceName = Field(
        "weights", description="How a fine-tune makes up for rare classes"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of a label that a fine-tune spreads over all classes"
    )
    mixup: float = Field(
        0.0, ge=0, le=10, description="Alpha of mixup in a fine-tune; 0 mixes nothing"
    )
