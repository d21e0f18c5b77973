"""What Label Studio and other programs may send, checked with pydantic.

Label Studio adds fields from release to release, so unknown ones are ignored; a field that is used
must have the right type.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LARGEST_ID = 2**31 - 1
"""Label Studio numbers projects and tasks from 1 to this."""


def _as_list(value: object) -> object:
    """Label Studio sends one object or a list of them under the same name."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not have a NUL character in it")
    return value


def _numbered(value: str) -> str:
    if int(value.partition(".")[0]) > LARGEST_ID:
        raise ValueError(f"there is no project of a number above {LARGEST_ID}")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
"""PostgreSQL keeps no text with a NUL character in it."""
Number = Annotated[int, Field(ge=0, le=LARGEST_ID)]
ProjectName = Annotated[
    str, Field(pattern=r"^[0-9]{1,10}(\.[0-9]{1,29})?$"), AfterValidator(_numbered)
]
"""A project as Label Studio names it to its backends: its number, a dot, and when it was made."""


class Payload(BaseModel):
    """Root of the payloads."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class RemoteId(Payload):
    """Something of which only the number is used."""

    id: Number


class RemoteAnnotation(Payload):
    """An annotation, as far as a webhook is followed."""

    task: Number | None = None


class RemoteProject(RemoteId):
    """A project, as far as a webhook is followed."""

    title: Text = Field("", max_length=1000)
    label_config: Text | None = Field(None, max_length=5_000_000)


RemoteIds = Annotated[
    list[RemoteId],
    BeforeValidator(_as_list, json_schema_input_type=list[RemoteId] | RemoteId | None),
]
RemoteAnnotations = Annotated[
    list[RemoteAnnotation],
    BeforeValidator(
        _as_list, json_schema_input_type=list[RemoteAnnotation] | RemoteAnnotation | None
    ),
]


class WebhookPayload(Payload):
    """Body of ``POST /webhook``."""

    action: Text = Field(min_length=1, max_length=60)
    project: RemoteProject
    task: RemoteIds = []
    tasks: RemoteIds = []
    annotation: RemoteAnnotations = []
    annotations: RemoteAnnotations = []

    @property
    def task_ids(self) -> list[int]:
        """The tasks that the payload names, in any of the ways it can."""
        named = {task.id for task in (*self.task, *self.tasks)}
        named |= {a.task for a in (*self.annotation, *self.annotations) if a.task is not None}
        return sorted(named)


class SetupPayload(Payload):
    """Body of ``POST /setup``."""

    project: ProjectName
    label_config: Text = Field(alias="schema", max_length=5_000_000)

    @property
    def project_id(self) -> int:
        """Number of the project in ``<id>.<created>``."""
        return int(self.project.split(".")[0])


class PredictTask(Payload):
    """One task of ``POST /predict``."""

    id: Number | None = None
    data: dict[str, Any] = {}


class PredictPayload(Payload):
    """Body of ``POST /predict``."""

    tasks: list[PredictTask]
    project: ProjectName | None = None
    label_config: Text | None = Field(None, max_length=5_000_000)

    @property
    def project_id(self) -> int | None:
        """Number of the project; none when the caller names none."""
        return int(self.project.split(".")[0]) if self.project else None


class TabPayload(Payload):
    """Body of ``POST /api/projects/<id>/suspicious/tab``: how many labels it takes the tasks of."""

    most: Annotated[int, Field(ge=1, le=200)] = 100


class TrainPayload(Payload):
    """Body of ``POST /train``: a project, as a number or as Label Studio's object."""

    project: Annotated[
        RemoteProject,
        BeforeValidator(
            lambda v: {"id": v} if isinstance(v, int | str) else v,
            json_schema_input_type=RemoteProject | Number,
        ),
    ]


class ExplainPayload(Payload):
    """Body of ``POST /api/projects/<project_id>/explain``."""

    uri: Text = Field(min_length=1)
    control: Text | None = Field(None, max_length=255)
    class_name: Text | None = Field(None, alias="class", max_length=10_000)


class NewTaskPayload(Payload):
    """Body of ``POST /api/projects/<project_id>/tasks``: an image, and the choices for it."""

    uri: Text = Field(min_length=1)
    name: Text = Field("", max_length=1000)
    choices: dict[Text, list[Text]] = Field(min_length=1, max_length=100)
    train: bool = False


VersionText = Annotated[Text, Field(pattern=r"^v[0-9]{1,9}$")]


class RollBackPayload(Payload):
    """Body of the route that rolls back: the version that was seen to serve."""

    serving: VersionText


class PromotePayload(RollBackPayload):
    """Body of the route that promotes: the version that is to serve."""

    version: VersionText
