"""What the route of the ticked choices answers: see :mod:`backend.answers`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backend.answers import Answer


class DifferingAnswer(Answer):
    """How many of ``n`` first answers differ from what the model said."""

    differ: int = Field(ge=0)
    n: int = Field(ge=0)
    value: float | None = Field(ge=0, le=1)
    low: float | None = Field(ge=0, le=1)
    high: float | None = Field(ge=0, le=1)


class DifferenceAnswer(Answer):
    """The share that differs when blind, minus that when ticked."""

    value: float | None = Field(ge=-1, le=1)
    low: float | None = Field(ge=-1, le=1)
    high: float | None = Field(ge=-1, le=1)


class SwayedAnswer(Answer):
    """People who saw a ticked choice beside people who did not."""

    ticked: DifferingAnswer
    blind: DifferingAnswer
    audit: DifferingAnswer
    difference: DifferenceAnswer
    verdict: Literal["follows", "opposes", "no difference seen", "cannot tell yet"]
    sentence: str = Field(min_length=1)


class AnnotatorSwayedAnswer(SwayedAnswer):
    """The same of one annotator."""

    annotator: int


class ControlSwayedAnswer(SwayedAnswer):
    """The same of everybody, for one control, and of each annotator."""

    control: str
    annotators: list[AnnotatorSwayedAnswer]


class LeftOutAnswer(Answer):
    """First answers that are not compared."""

    nothing: int = Field(ge=0, description="Nothing was there to be ticked")
    replaced: int = Field(ge=0, description="The prediction was being replaced")
    changed: int = Field(ge=0, description="The answer was changed before it was seen")
    check: int = Field(ge=0, description="A promise left the image to people as a check")
    other_share: int = Field(ge=0, description="Another blind share was in force")


class TickedChoicesAnswer(Answer):
    """How often people change a ticked choice, and how often they differ from it when blind."""

    share: float | None = Field(description="The blind share that the answers were given under")
    controls: list[ControlSwayedAnswer]
    left_out: LeftOutAnswer
    sentence: str = Field(description="Why nothing can be compared; empty where it can")
