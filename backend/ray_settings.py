"""The settings of Ray: where the heavy work runs when one machine is not enough."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

EngineName = Literal["local", "ray"]


class RaySettings(BaseModel):
    """Whether the trainer's heavy work runs on its own machine or on a Ray cluster."""

    engine: EngineName = Field(
        "local", description="Where the trainer embeds and fine-tunes: on its machine, or on Ray"
    )
    ray_address: str = Field(
        "",
        validate_default=True,
        description="Address of the Ray cluster's head, as in `10.0.0.5:6379`",
    )
    ray_workers: int = Field(
        0, ge=0, le=1024, description="Most processes that fine-tune together; 0: by the cluster"
    )
    ray_chunk: int = Field(
        8192, ge=1, le=1_000_000, description="Most images that the cluster embeds in one go"
    )
    ray_seconds: float = Field(
        300.0, gt=0, description="Longest silence of the Ray cluster before the work is begun again"
    )

    @field_validator("ray_address")
    @classmethod
    def _host_and_port(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("engine") == "ray":
            raise ValueError("TIEBREAK_ENGINE=ray needs one, as in 10.0.0.5:6379")
        if value and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}", value):
            raise ValueError("must be a host and a port, as in 10.0.0.5:6379")
        return value
