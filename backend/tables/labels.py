"""What people say, and what was accepted for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.tables.base import Base


class Label(Base):
    """What the people agreed on for one task and one control."""

    __tablename__ = "labels"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    control: Mapped[str] = mapped_column(String(255), primary_key=True)
    status: Mapped[str] = mapped_column(String(10))
    """agreed, tied, outside (a class that the config does not have) or gone."""
    choices: Mapped[list[str]] = mapped_column(JSON)
    votes: Mapped[int] = mapped_column(default=0)
    detail: Mapped[str] = mapped_column(Text, default="")
    learned: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """The choices that the last training saw; empty where it saw none."""


class Vote(Base):
    """What one annotator says about one task: the annotation of theirs that counts."""

    __tablename__ = "votes"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    annotation_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    annotator: Mapped[int | None] = mapped_column()
    """Number of the user in Label Studio."""
    choices: Mapped[dict[str, list[str]]] = mapped_column(JSON)
    """Control → what is ticked; without the controls that nothing is said about."""
    seconds: Mapped[float | None] = mapped_column(Float)
    """How long the task was open."""


class AutoRun(Base):
    """One promise under which Tiebreak accepted its own answers: see :mod:`backend.auto_label`."""

    __tablename__ = "auto_runs"
    __table_args__ = (Index("auto_runs_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    created_at: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(12))
    """accepting, done, paused or undone."""
    version: Mapped[int] = mapped_column()
    control: Mapped[str] = mapped_column(String(255))
    max_error: Mapped[float] = mapped_column(Float)
    confidence: Mapped[float] = mapped_column(Float)
    promise: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """What it stands on, one entry or one for each class: see :class:`model.risk.Promise`."""
    audit: Mapped[list[int]] = mapped_column(JSON, default=list)
    """Tasks of the audit images that are as sure as what it covers."""
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it is paused."""
    owner: Mapped[str] = mapped_column(String(120), default="")
    """The command that writes its annotations, and its last sign of life."""
    heartbeat_at: Mapped[float] = mapped_column(Float, default=0.0)


class AutoLabel(Base):
    """A task that a promise covers: accepted, or left to people as a check of it."""

    __tablename__ = "auto_labels"

    run_id: Mapped[int] = mapped_column(
        ForeignKey("auto_runs.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    choice: Mapped[str] = mapped_column(Text)
    sureness: Mapped[float] = mapped_column(Float)
    """Calibrated probability of the choice."""
    check: Mapped[bool] = mapped_column()
    annotation_id: Mapped[int | None] = mapped_column()
    """Its annotation in Label Studio; empty where none was seen to be made."""
    left_out: Mapped[bool] = mapped_column(default=False)
    """A person was there first, or the task is gone."""


class QualityCheck(Base):
    """What was found the last time a project's labels and images were checked."""

    __tablename__ = "quality_checks"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    mark: Mapped[str] = mapped_column(String(64))
    """Digest of the labels, votes and images that were looked at."""
    checked_at: Mapped[float] = mapped_column(Float)
    seconds: Mapped[float] = mapped_column(Float)
    """How long it took."""
    labels: Mapped[int] = mapped_column()
    """How many labels were checked."""
    suspicious: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """The worst first: see :mod:`backend.suspicious`."""
    drift: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Data key → how new images differ from old ones."""
