"""What the routes answer, as models that the OpenAPI description is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, with_config

from backend.projects import ProjectStatus, VersionJson
from backend.promises import RunStatus

VERSION = r"^v[0-9]+$"
ORDER = r"^v[0-9]+(\.[0-9]+)?$"
DIGEST = r"^[0-9a-f]{64}$"
VersionName = Annotated[str, Field(pattern=VERSION)]


class Answer(BaseModel):
    """Root of the answers; they have the fields that are named, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorAnswer(Answer):
    """Every answer that is no success."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="What is wrong, for programs")
    message: str = Field(min_length=1, description="What is wrong, in a sentence")
    mend: str = Field(min_length=1, description="What to do about it")
    request_id: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$", description="What to look for in the logs"
    )


class HealthAnswer(Answer):
    """The server answers."""

    status: Literal["UP"]
    model_class: Literal["Tiebreak"]


class SetupAnswer(Answer):
    """The order that serves the project."""

    model_version: str = Field(pattern=ORDER)


class ChoiceValue(Answer):
    """The ticked choices."""

    choices: list[str] = Field(min_length=1)


class ChoiceResult(Answer):
    """One control's choice, as Label Studio shows it."""

    id: str
    from_name: str
    to_name: str
    type: Literal["choices"]
    score: float = Field(ge=0, le=1, description="Probability of the choice")
    value: ChoiceValue


class PredictionAnswer(Answer):
    """The prediction of one task."""

    model_version: str = Field(pattern=ORDER)
    score: float = Field(ge=0, le=1, description="Place in the order; lower is labelled sooner")
    result: list[ChoiceResult]


class PredictAnswer(Answer):
    """One entry per task, in their order."""

    results: list[PredictionAnswer]


class NotedAnswer(Answer):
    """The hint is kept, or there was nothing to keep."""

    status: Literal["noted", "nothing to do"]


class VersionsAnswer(Answer):
    """Names of the versions that served or serve, the newest first."""

    versions: list[VersionName] = Field(min_length=1)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ProjectAnswer(ProjectStatus):
    """How a project stands, with all its versions, the newest first."""

    versions: list[VersionJson]


class PromotionAnswer(Answer):
    """What serves now, what served before, and what its user should know."""

    version: VersionName
    before: VersionName
    changed: bool
    sentence: str
    warnings: list[str]


class ProjectsAnswer(Answer):
    """How every project stands."""

    projects: list[ProjectStatus]


class AutoLabelAnswer(Answer):
    """The promises of a project, the first one first."""

    runs: list[RunStatus]


class SuspiciousLabelAnswer(Answer):
    """A label that is probably wrong."""

    task: int
    control: str
    given: list[str] = Field(description="The choices that people ticked, or tie on")
    likely: list[str]
    probability: float | None = Field(ge=0, le=1, description="Of what is likely")
    doubt: float = Field(ge=0, le=1, description="What the list is ordered by")
    reasons: list[Literal["model", "people", "near-duplicate"]] = Field(min_length=1)


class SuspiciousAnswer(Answer):
    """The labels that are probably wrong, the worst first."""

    checked_at: float | None = Field(description="Seconds since the epoch; null before a check")
    labels: int = Field(ge=0, description="How many were checked")
    suspicious: list[SuspiciousLabelAnswer]


class TabAnswer(Answer):
    """The tab in Label Studio."""

    title: str
    url: str
    tasks: list[int] = Field(min_length=1)


class AgreementAnswer(Answer):
    """How far annotators agree on one control."""

    control: str
    alpha: float | None
    low: float | None
    high: float | None
    images: int
    same: float | None
    sentence: str


class MedianAnswer(Answer):
    """Seconds for a label."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class AnnotatorSecondsAnswer(MedianAnswer):
    """Seconds for a label of one annotator."""

    annotator: int | None


class SecondsAnswer(MedianAnswer):
    """Seconds for a label of everybody, and of each annotator."""

    annotators: list[AnnotatorSecondsAnswer]
    sentence: str


class DriftAnswer(Answer):
    """Whether new images differ from old ones."""

    data_key: str
    distance: float | None
    p_value: float | None
    differs: bool | None
    old: int
    new: int
    sentence: str


class QualityAnswer(Answer):
    """Agreement, time and drift."""

    agreement: list[AgreementAnswer]
    seconds: SecondsAnswer
    drift: list[DriftAnswer]


class LikelyClass(Answer):
    """A class and its calibrated probability."""

    name: str
    probability: float = Field(ge=0, le=1)


class NearestAnswer(Answer):
    """A labelled image that the model finds alike."""

    task: int
    digest: str = Field(pattern=DIGEST)
    choices: list[str]
    similarity: float


class ExplanationAnswer(Answer):
    """What a version says of an image, and where it sees it."""

    digest: str = Field(pattern=DIGEST, description="SHA-256 of the image, for /images")
    version: VersionName
    control: str
    multiple: bool
    label: str = Field(description="The likeliest class")
    confidence: float = Field(ge=0, le=1, description="Its probability")
    top: list[LikelyClass] = Field(min_length=1, max_length=5)
    explained: str = Field(description="The class that the layers are about")
    fit: float = Field(le=1.0001, description="R² of LIME's linear model")
    superpixels: str = Field(pattern="^data:image/png;base64,", description="LIME's layer")
    heat: str = Field(pattern="^data:image/png;base64,", description="Grad-CAM's layer")
    nearest: list[NearestAnswer]


class NewTaskAnswer(Answer):
    """The labelled task that was made in Label Studio."""

    task: int
    training: bool = Field(description="Whether a training was asked for")


class DescriptionAnswer(BaseModel):
    """An OpenAPI description."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
