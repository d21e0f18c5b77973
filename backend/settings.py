"""The one table of settings: name, type, default, meaning.

Every setting is an environment variable: ``TIEBREAK_`` and the name in capitals, except the four
that other programs share (``LABEL_STUDIO_URL``, ``LABEL_STUDIO_API_KEY``, ``DATABASE_URL``,
``MLFLOW_TRACKING_URI``). Those that are secret may stand in a file instead: see
:mod:`backend.secret_files`.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from backend.errors import SettingsError
from backend.secret_files import SecretFiles

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
OptimiserName = Literal["adamw", "sgd"]
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
TransferName = Literal["features", "finetune"]
AugmentationName = Literal["auto", "photos", "any-way-up", "characters", "none"]
BalanceName = Literal["none", "weights", "sampler"]

SHORTEST_SECRET = 12
SECRETS = ("label_studio_api_key", "database_url", "password", "api_token", "webhook_secret")
"""Settings that may stand in a file, and that no message shows."""


class Settings(BaseSettings):
    """Typed settings of every Tiebreak process."""

    model_config = SettingsConfigDict(
        env_prefix="TIEBREAK_", extra="ignore", populate_by_name=True, frozen=True
    )

    label_studio_url: str | None = Field(
        None, validation_alias="LABEL_STUDIO_URL", description="Address of Label Studio"
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

    backbone: BackboneName = Field(
        "mobilenet_v2", description="Pretrained network that makes the embeddings"
    )
    input_size: int = Field(
        224, ge=32, le=512, description="Side in pixels of the square that every image is scaled to"
    )
    weights_dir: Path | None = Field(
        None, description="Folder with weights files, looked in before any download"
    )
    strategy: StrategyName = Field("auto", description="What picks the images to label next")
    batch_size: int = Field(
        0, ge=0, description="Images picked to go well together; 0: by how many are labelled"
    )
    seed: int = Field(0, ge=0, description="Seed of everything random")

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

    min_new_labels: int = Field(10, ge=1, description="Changed labels that start a retraining")
    quiet_seconds: float = Field(
        0.5, ge=0, description="Quiet after the last submit before a retraining starts"
    )
    max_wait_seconds: float = Field(
        5.0, ge=0, description="Longest wait for that quiet while people keep submitting"
    )
    idle_train_seconds: float = Field(
        300.0, ge=0, description="Fewer changed labels than that are learned after this long"
    )
    poll_seconds: float = Field(
        60.0, gt=0, description="Seconds between two full looks at Label Studio"
    )
    queue_head: int = Field(
        200, ge=1, description="Predictions pushed first, before the rest of the pool"
    )
    audit_share: float = Field(
        0.1, ge=0, le=0.5, description="Share of images in the audit set, which is never trained on"
    )
    audit_half_width: float = Field(
        0.03,
        gt=0,
        le=1,
        description="Half-width of the accuracy's interval that slows the audit set down",
    )
    gate_margin: float = Field(
        0.02, ge=0, le=1, description="Accuracy a challenger may lose on the audit set and be kept"
    )
    target_accuracy: float = Field(
        0.95, gt=0, lt=1, description="Accuracy that the labels still needed are forecast for"
    )
    stop_gain: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Points of accuracy for 100 labels below which labelling more hardly pays",
    )
    keep_versions: int = Field(
        10, ge=1, description="Newest versions that `tiebreak versions --prune` leaves on disk"
    )
    lease_seconds: float = Field(
        30.0, gt=0, description="A trainer silent for this long loses its project to another"
    )
    step_seconds: float = Field(
        600.0, gt=0, description="A trainer whose step shows no progress for this long is replaced"
    )
    long_step_seconds: float = Field(
        3600.0,
        gt=0,
        description="The same for steps that compute over a whole project, such as a training",
    )
    stop_seconds: float = Field(
        20.0, gt=0, description="Longest that a trainer goes on with its step when told to stop"
    )

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
        """What is passed in, the environment, files that the environment names."""
        files = SecretFiles(settings_cls, {name: variable_name(name) for name in SECRETS})
        return init_settings, env_settings, files

    @field_validator("password", "api_token", "webhook_secret")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if not text:
            return None
        if len(text) < SHORTEST_SECRET or not text.isascii() or not text.isprintable():
            raise ValueError(f"must have {SHORTEST_SECRET} or more characters, plain ASCII")
        return value

    @field_validator("label_studio_url", "public_url")
    @classmethod
    def _http_address(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("backbone", mode="before")
    @classmethod
    def _pretrained(cls, value: object) -> object:
        if value in ("alexnet_bn", "small_cnn"):
            raise ValueError(
                f"{value} trains from scratch, for comparisons only; a pretrained network is "
                f"needed: {', '.join(get_args(BackboneName))}"
            )
        return value

    @field_validator("image_allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network, strict=False)
        return value

    @property
    def database_address(self) -> str:
        """SQLAlchemy address of the database."""
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'tiebreak.db'}"

    @property
    def backend_url(self) -> str:
        """Address under which Label Studio reaches the backend."""
        if self.public_url:
            return self.public_url
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{host}:{self.port}"

    @property
    def working_copies(self) -> Path:
        """Folder of the working copies of images."""
        return self.data_dir / "images"

    @property
    def weights_cache(self) -> Path:
        """Folder that downloaded weights are kept in."""
        return self.data_dir / "weights"


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
        lines.append(f"{name}={shown}: {problem['msg']}")
    return "; ".join(lines) + "."
