"""The one table of settings: name, type, default, meaning.

Every setting is an environment variable: ``TIEBREAK_`` and the name in capitals, except those
that other programs share (``LABEL_STUDIO_URL`` and its like, ``DATABASE_URL``,
``MLFLOW_TRACKING_URI``). Those that are secret may stand in a file instead: see
:mod:`backend.secret_files`.

The table is made of groups, each in a module of its own, in the order of ``docs/settings.md``.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from backend.errors import SettingsError
from backend.finetune_settings import FineTuneSettings
from backend.image_settings import ImageSettings
from backend.learning_settings import LearningSettings
from backend.ray_settings import RaySettings
from backend.rhythm_settings import RhythmSettings
from backend.secret_files import SecretFiles
from backend.server_settings import ServerSettings
from backend.storage_settings import StorageSettings
from backend.what_is_up import WhatIsUp

SECRETS = ("label_studio_api_key", "database_url", "password", "api_token", "webhook_secret")
"""Settings that may stand in a file, and that no message shows."""


class Settings(
    # Pydantic begins with the fields of the last.
    RaySettings,
    ImageSettings,
    RhythmSettings,
    FineTuneSettings,
    LearningSettings,
    ServerSettings,
    StorageSettings,
    BaseSettings,
):
    """Typed settings of every Tiebreak process."""

    model_config = SettingsConfigDict(
        env_prefix="TIEBREAK_", extra="ignore", populate_by_name=True, frozen=True
    )

    label_studio_command: Path = Field(
        Path(".venv-label-studio/bin/label-studio"),
        description="Label Studio's program, for `tiebreak up`",
    )
    label_studio_port: int = Field(
        8080, ge=1, le=65535, description="Port for the Label Studio that `tiebreak up` starts"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed in, the environment, files that the environment names, what is up."""
        files = SecretFiles(settings_cls, {name: variable_name(name) for name in SECRETS})
        return init_settings, env_settings, files, WhatIsUp(settings_cls)

    @field_validator("label_studio_url", "label_studio_public_url", "public_url", "s3_endpoint")
    @classmethod
    def _http_address(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, ``overrides`` first.

    Raises :class:`SettingsError` naming each variable, its value and what is allowed.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def label_studio_access(settings: Settings) -> tuple[str, str]:
    """Address and token of Label Studio.

    Raises :class:`SettingsError` when one of them is not set.
    """
    if not settings.label_studio_url:
        raise SettingsError(
            "LABEL_STUDIO_URL is not set.",
            mend="Set it to the address of your Label Studio, for example http://127.0.0.1:8080.",
        )
    if not settings.label_studio_api_key:
        raise SettingsError(
            "LABEL_STUDIO_API_KEY is not set.",
            mend="Set it to a token from Label Studio: Account & Settings → Personal Access Token.",
        )
    return settings.label_studio_url, settings.label_studio_api_key.get_secret_value()


def variable_name(field_name: str) -> str:
    """Environment variable of a setting."""
    alias = Settings.model_fields[field_name].validation_alias
    return str(alias) if alias else f"TIEBREAK_{field_name.upper()}"


def _explain(error: ValidationError) -> str:
    by_alias = {variable_name(name): name for name in Settings.model_fields}
    lines = []
    for problem in error.errors():
        where = str(problem["loc"][0]) if problem["loc"] else "settings"
        name = where if where in by_alias else variable_name(where)
        shown = "(hidden)" if by_alias.get(name) in SECRETS else repr(problem["input"])
        said = problem["msg"].removeprefix("Value error, ")  # Pydantic's words before our own
        lines.append(f"{name}={shown}: {said}")
    return "; ".join(lines) + "."
