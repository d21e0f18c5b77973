"""What was ticked for people, and what they first said to it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.tables.base import Base


class SentPart(Base):
    """What predictions of an order ticked or withheld that were sent together.

    Of an order that is not the last one of its version they are forgotten after a day.
    """

    __tablename__ = "sent_parts"
    __table_args__ = (Index("sent_parts_order", "project_id", "version", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    """Ascends in the order in which they were sent."""
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column()
    number: Mapped[int] = mapped_column()
    """Number of the order among those of the version."""
    blind_share: Mapped[float] = mapped_column(Float)
    """The share of images by which they were withheld."""
    begun_at: Mapped[float] = mapped_column(Float)
    sent_at: Mapped[float | None] = mapped_column(Float)
    """When Label Studio had them; empty where that was not seen."""
    offers: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """Control → state and choices, each that occurs once."""
    tasks: Mapped[bytes] = mapped_column(LargeBinary)
    """The tasks and the positions of their offers: see :mod:`backend.offers`."""


class Serving(Base):
    """Label Studio was told to go by an order."""

    __tablename__ = "servings"
    __table_args__ = (Index("servings_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column()
    number: Mapped[int] = mapped_column()
    begun_at: Mapped[float] = mapped_column(Float)
    served_at: Mapped[float | None] = mapped_column(Float)
    """When it had been told; empty where that was not seen."""


class FirstAnswer(Base):
    """What an annotator said first of a task, and what the model said of it when they opened it.

    One row for each control that is answered, with the name empty where none is. Never changed.
    """

    __tablename__ = "first_answers"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    annotator: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Number of the user in Label Studio."""
    control: Mapped[str] = mapped_column(String(255), primary_key=True)
    annotation_id: Mapped[int] = mapped_column()
    answered_at: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(12))
    """ticked, blind or audit; or why it does not count: see :mod:`backend.first_answers`."""
    version: Mapped[int | None] = mapped_column()
    """The version that said it; empty where none did."""
    blind_share: Mapped[float | None] = mapped_column(Float)
    """The share of images that were blind then."""
    said: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """The choices of the model."""
    given: Mapped[list[str]] = mapped_column(JSON)
    differs: Mapped[bool | None] = mapped_column()
    """Whether the annotator's choices are others."""
