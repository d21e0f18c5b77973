"""Who works on what: hints, troubles, leases and trainers."""

from __future__ import annotations

from sqlalchemy import JSON, Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.tables.base import Base


class Trouble(Base):
    """A step of a project that failed, until it goes well again: see :mod:`backend.troubles`."""

    __tablename__ = "troubles"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[str] = mapped_column(String(40), primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    """In a row."""
    reason: Mapped[str] = mapped_column(Text)
    mend: Mapped[str] = mapped_column(Text, default="")
    retry_at: Mapped[float] = mapped_column(Float, default=0.0)
    parked_at: Mapped[float | None] = mapped_column(Float)
    """When it was given up; empty while it is tried again soon."""
    mark: Mapped[str] = mapped_column(String(64), default="")
    """Digest of what may mend it: labels, tasks, config and requests."""
    hung: Mapped[bool] = mapped_column(default=False)
    """It did not fail but never ended, so a trainer that starts does not try it at once."""


class Hint(Base):
    """Something may have changed in Label Studio; the reconciler goes and looks."""

    __tablename__ = "hints"
    __table_args__ = (Index("hints_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column()
    action: Mapped[str] = mapped_column(String(60))
    task_ids: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    """The tasks to look at; everything, where it is empty."""
    created_at: Mapped[float] = mapped_column(Float)
    request_id: Mapped[str] = mapped_column(String(64), default="")
    """The request that left it; empty where none did."""


class Lease(Base):
    """Which trainer works on a project."""

    __tablename__ = "leases"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    owner: Mapped[str] = mapped_column(String(120))
    heartbeat_at: Mapped[float] = mapped_column(Float)


class TrainerProcess(Base):
    """A trainer and its last sign of life."""

    __tablename__ = "trainers"

    owner: Mapped[str] = mapped_column(String(120), primary_key=True)
    heartbeat_at: Mapped[float] = mapped_column(Float)
