"""What Label Studio and other programs may send, checked with pydantic.

Label Studio adds fields from release to release, so unknown ones are ignored; a field that is used
must have the right type.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _as_list(value: object) -> object:
    """Label Studio sends one object or a list of them under the same name."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


class Payload(BaseModel):
    """Root of the payloads."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class RemoteId(Payload):
    """Something of which only the number is used."""

    id: int = Field(ge=0)


class RemoteAnnotation(RemoteId):
    """An annotation, as far as a webhook is followed."""

    task: int | None = None


class RemoteProject(RemoteId):
    """A project, as far as a webhook is followed."""

    title: str = ""
    label_config: str | None = None


class WebhookPayload(Payload):
    """Body of ``POST /webhook``."""

    action: str = Field(min_length=1, max_length=60)
    project: RemoteProject
    task: Annotated[list[RemoteId], BeforeValidator(_as_list)] = []
    tasks: Annotated[list[RemoteId], BeforeValidator(_as_list)] = []
    annotation: Annotated[list[RemoteAnnotation], BeforeValidator(_as_list)] = []
    annotations: Annotated[list[RemoteAnnotation], BeforeValidator(_as_list)] = []

    @property
    def task_ids(self) -> list[int]:
        """The tasks that the payload names, in any of the ways it can."""
        named = {task.id for task in (*self.task, *self.tasks)}
        named |= {a.task for a in (*self.annotation, *self.annotations) if a.task is not None}
        return sorted(named)


class SetupPayload(Payload):
    """Body of ``POST /setup``."""

    project: str = Field(pattern=r"^\d+(\.\d+)?$", max_length=40)
    label_config: str = Field(alias="schema", max_length=5_000_000)

    @property
    def project_id(self) -> int:
        """Number of the project in ``<id>.<created>``."""
        return int(self.project.split(".")[0])


class PredictTask(Payload):
    """One task of ``POST /predict``."""

    id: int | None = None
    data: dict[str, Any] = {}


class PredictPayload(Payload):
    """Body of ``POST /predict``."""

    tasks: list[PredictTask]
    project: str | None = Field(None, pattern=r"^\d+(\.\d+)?$", max_length=40)
    label_config: str | None = Field(None, max_length=5_000_000)

    @property
    def project_id(self) -> int | None:
        """Number of the project; none when the caller names none."""
        return int(self.project.split(".")[0]) if self.project else None


class TrainPayload(Payload):
    """Body of ``POST /train``: a project, as a number or as Label Studio's object."""

    project: Annotated[
        RemoteProject, BeforeValidator(lambda v: {"id": v} if isinstance(v, int | str) else v)
    ]
