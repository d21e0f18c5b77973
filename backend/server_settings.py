"""The settings of the server."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, SecretStr, field_validator

SHORTEST_SECRET = 12


class ServerSettings(BaseModel):
    """Where and how the server listens, who may ask, how much, and what is logged."""

    host: str = Field("127.0.0.1", description="Address that the backend listens on")
    port: int = Field(9090, ge=1, le=65535, description="Port that the backend listens on")
    public_url: str | None = Field(
        None, description="Address under which Label Studio reaches the backend"
    )
    user: str = Field(
        "tiebreak",
        pattern=r"^[!-9;-~]{1,100}$",
        description="User name of the page, the API and Label Studio's calls",
    )
    password: SecretStr | None = Field(
        None, description="Password of that user; made and kept in the data folder when empty"
    )
    api_token: SecretStr | None = Field(
        None, description="Bearer token of the API; made and kept in the data folder when empty"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Secret header of webhooks; made and kept in the data folder when empty"
    )
    predict_seconds: float = Field(
        80.0, gt=0, description="Seconds after which /predict answers with what it has"
    )
    max_request_bytes: int = Field(
        100_000_000, ge=1, description="Largest request body that the server reads"
    )
    request_seconds: float = Field(
        60.0, gt=0, description="Seconds for one request to arrive whole, and for its answer to go"
    )
    predict_max_tasks: int = Field(
        20_000, ge=1, description="Most tasks that one /predict may ask about"
    )
    requests_per_minute: int = Field(
        60_000, ge=1, description="Requests of one address in a minute; more are answered with 429"
    )
    failed_logins_per_minute: int = Field(
        20, ge=1, description="Wrong log-ins of one address in a minute; more are answered with 429"
    )
    trusted_proxies: int = Field(
        0, ge=0, le=10, description="Proxies in front whose X-Forwarded- headers are believed"
    )
    workers: int = Field(
        2, ge=1, le=64, description="Processes of the server, each with its own model in memory"
    )
    threads: int = Field(
        8, ge=1, le=256, description="Requests that each process answers at the same time"
    )
    graceful_seconds: float = Field(
        30.0, gt=0, description="Seconds that a server which stops has for requests in flight"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much is logged"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines for people, or one JSON object a line"
    )

    @field_validator("password", "api_token", "webhook_secret")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if not text:
            return None
        if len(text) < SHORTEST_SECRET or not text.isascii() or not text.isprintable():
            raise ValueError(f"must have {SHORTEST_SECRET} or more characters, plain ASCII")
        return value

    @property
    def backend_url(self) -> str:
        """Address under which Label Studio reaches the backend."""
        if self.public_url:
            return self.public_url
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{host}:{self.port}"
