"""The settings of Label Studio and of storage."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, field_validator


class StorageSettings(BaseModel):
    """Where the labels come from, and where everything is kept."""

    label_studio_url: str | None = Field(
        None, validation_alias="LABEL_STUDIO_URL", description="Address of Label Studio"
    )
    label_studio_public_url: str | None = Field(
        None,
        validation_alias="LABEL_STUDIO_PUBLIC_URL",
        description="Address under which people open Label Studio, where that is another one",
    )
    label_studio_api_key: SecretStr | None = Field(
        None,
        validation_alias="LABEL_STUDIO_API_KEY",
        description="Token of a Label Studio user: legacy or personal access token",
    )
    label_studio_timeout: float = Field(
        60.0, gt=0, description="Seconds to wait for one answer of Label Studio"
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="SQLAlchemy address; SQLite in the data folder when empty",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        validation_alias="MLFLOW_TRACKING_URI",
        description="MLflow that every version's metrics go to as well",
    )
    data_dir: Path = Field(
        Path(".tiebreak"), description="Folder for the database, versions and working copies"
    )
    artifacts: str | None = Field(
        None,
        description="Bucket, as in `s3://bucket/prefix`, in which machines share versions and "
        "working copies; the data folder alone when empty",
    )
    s3_endpoint: str | None = Field(
        None, description="Address of an S3 server that is not Amazon's"
    )
    copies_max_bytes: int = Field(
        20_000_000_000,
        ge=1_000_000,
        description="Most bytes of working copies in the data folder, beside those in the bucket",
    )

    @field_validator("artifacts")
    @classmethod
    def _bucket(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?", value):
            raise ValueError("must be a bucket and, if wanted, a prefix in it: s3://bucket/prefix")
        return value.rstrip("/")

    @property
    def label_studio_link(self) -> str | None:
        """Address of Label Studio for people's browsers."""
        return self.label_studio_public_url or self.label_studio_url

    @property
    def database_address(self) -> str:
        """SQLAlchemy address of the database."""
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'tiebreak.db'}"

    @property
    def working_copies(self) -> Path:
        """Folder of the working copies of images."""
        return self.data_dir / "images"

    @property
    def weights_cache(self) -> Path:
        """Folder that downloaded weights are kept in."""
        return self.data_dir / "weights"
