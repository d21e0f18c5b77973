"""The settings of images: how they are fetched, decoded and kept."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import BaseModel, Field, field_validator


class ImageSettings(BaseModel):
    """What an image may be and take, and where it may come from."""

    image_max_bytes: int = Field(50_000_000, ge=1, description="Largest image file that is fetched")
    image_max_pixels: int = Field(
        100_000_000, ge=1, description="Largest image, width times height, that is decoded"
    )
    image_timeout: float = Field(30.0, gt=0, description="Seconds for one image to arrive whole")
    image_max_redirects: int = Field(3, ge=0, le=20, description="Redirects followed for an image")
    image_allowed_networks: tuple[str, ...] = Field(
        (),
        description="Private networks (CIDR, as a JSON list) that images may be fetched from",
    )
    image_decoders: int = Field(
        2, ge=1, le=64, description="Processes of each server or trainer that decode images"
    )
    image_decode_memory: int = Field(
        900_000_000,
        ge=100_000_000,
        description="Most memory in bytes that one of them may use for an image",
    )
    image_decode_seconds: float = Field(
        20.0, gt=0, description="Seconds that one of them may decode an image"
    )
    image_workers: int = Field(4, ge=1, le=64, description="Images fetched at the same time")
    working_copy_side: int = Field(
        288, ge=32, le=2048, description="Shorter side in pixels of the kept working copy"
    )

    @field_validator("image_allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network, strict=False)
        return value
