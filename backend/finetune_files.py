"""The folder of one fine-tune: what its child process reads, and what it writes.

``job.json``       what is to be learned, written once by the trainer
``skipped.json``   rows whose image the child found broken, and why
``progress.json``  how far the child is
``checkpoint/``    what it goes on from, see :func:`model.finetune.finetune`
``tuned.safetensors`` and, last, ``result.json``

Every file is written whole or not at all, so a process killed at any instant leaves a folder that
the next one can go on from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backend.finetune_settings import AugmentationName, BalanceName, OptimiserName
from model.files import write_whole

JOB, SKIPPED, PROGRESS, RESULT = "job.json", "skipped.json", "progress.json", "result.json"
CHECKPOINT, TUNED = "checkpoint", "tuned.safetensors"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class File(BaseModel):
    """What one file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class JobControl(File):
    """A control whose labels are learned."""

    name: str
    classes: tuple[str, ...] = Field(min_length=1)
    multiple: bool


class JobRow(File):
    """An image by the SHA-256 of its bytes, and for each labelled control the positions of the
    chosen classes."""

    digest: Digest
    targets: dict[str, tuple[int, ...]]


class JobOptions(File):
    """Those of :class:`model.finetune.FineTuneOptions` that are settings."""

    epochs: int = Field(ge=1)
    optimiser: OptimiserName
    backbone_rate: float = Field(gt=0)
    head_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    augmentation: AugmentationName
    augmentation_strength: float = Field(ge=0)
    balance: BalanceName
    label_smoothing: float = Field(ge=0, lt=1)
    mixup: float = Field(ge=0)
    seed: int = Field(ge=0)


class Job(File):
    """What is to be learned. Equal jobs give equal networks on one machine."""

    format: Literal[1] = 1
    backbone: str
    identity: str
    """Of the original backbone that it starts from."""
    input_size: int
    weights_dir: Path | None
    weights_cache: Path
    images: Path
    image_side: int
    artifacts: str | None = None
    """The bucket that all working copies are in."""
    s3_endpoint: str | None = None
    copies_max_bytes: int | None = None
    controls: tuple[JobControl, ...]
    rows: tuple[JobRow, ...]
    options: JobOptions
    threads: int = Field(ge=1)
    nice: int = Field(ge=0, le=19)
    ray_address: str = ""
    """Of the cluster that learns it; empty: this machine does."""
    ray_workers: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        controls = {control.name: control for control in self.controls}
        for row in self.rows:
            for name, chosen in row.targets.items():
                control = controls.get(name)
                if control is None:
                    raise ValueError(f"no control is called {name!r}")
                if any(not 0 <= position < len(control.classes) for position in chosen):
                    raise ValueError(f"{name!r} has no class at one of {chosen}")
                if not control.multiple and len(chosen) != 1:
                    raise ValueError(f"{name!r} takes one class, not {len(chosen)}")
        return self


class Skipped(File):
    """Digest of an image → why it cannot be read."""

    images: dict[Digest, str]


class Progress(File):
    """How far a fine-tune is; ``epoch`` is 0 until the network itself learns."""

    phase: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    eta_seconds: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


class Result(File):
    """How a fine-tune ended. ``retry``: trying again may help."""

    done: bool
    reason: str = ""
    retry: bool = True
    sha256: str = ""
    trained: tuple[Digest, ...] = ()
    """The images whose gradients shaped the network."""
    improved: bool = False
    """An epoch did better on the watched images than the untouched network."""
    skipped: int = 0
    losses: tuple[float, ...] = ()
    """Of the watched images: by the untouched network, then after each epoch."""
    summary: dict[str, float | int | str | None] = Field(default_factory=dict)


Any_ = TypeVar("Any_", bound=File)


def write(folder: Path, name: str, content: File) -> None:
    """Write a file of the folder, whole or not at all."""
    write_whole(folder / name, content.model_dump_json(indent=1).encode())


def read(folder: Path, name: str, kind: type[Any_]) -> Any_ | None:
    """What a file of the folder holds; None when it is missing or damaged."""
    try:
        return kind.model_validate_json((folder / name).read_bytes())
    except (OSError, ValidationError):
        return None


def job_folder(data_dir: Path, project_id: int, number: int) -> Path:
    """Folder of a project's fine-tune."""
    return project_folder(data_dir, project_id) / str(number)


def project_folder(data_dir: Path, project_id: int) -> Path:
    """Folder of all fine-tunes of a project that have not ended."""
    return data_dir / "finetunes" / f"project-{project_id}"
