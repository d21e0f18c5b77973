"""The settings of the heads, and of what is labelled next."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, Field, field_validator

BackboneName = Literal[
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50_v1",
    "vgg16",
    "efficientnet_b0",
    "convnext_tiny",
]
StrategyName = Literal[
    "auto",
    "random",
    "least-confidence",
    "margin",
    "entropy",
    "coreset",
    "badge",
    "typiclust",
    "uherding",
    "bald",
]


class LearningSettings(BaseModel):
    """Which network sees the images, and what picks the next ones."""

    backbone: BackboneName = Field(
        "mobilenet_v2", description="Pretrained network that makes the embeddings"
    )
    input_size: int = Field(
        224, ge=32, le=512, description="Side in pixels of the square that every image is scaled to"
    )
    runtime: Literal["auto", "openvino", "torch"] = Field(
        "auto", description="What runs that network: OpenVINO on CPUs, torch on GPUs, or as named"
    )
    weights_dir: Path | None = Field(
        None, description="Folder with weights files, looked in before any download"
    )
    strategy: StrategyName = Field("auto", description="What picks the images to label next")
    batch_size: int = Field(
        0, ge=0, description="Images picked to go well together; 0: by how many are labelled"
    )
    auto_label_weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How much an automatic label teaches beside one of a person's; 0: nothing",
    )
    seed: int = Field(0, ge=0, description="Seed of everything random")

    @field_validator("backbone", mode="before")
    @classmethod
    def _pretrained(cls, value: object) -> object:
        if value in ("alexnet_bn", "small_cnn"):
            raise ValueError(
                f"{value} trains from scratch, for comparisons only; a pretrained network is "
                f"needed: {', '.join(get_args(BackboneName))}"
            )
        return value
