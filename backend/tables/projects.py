"""Projects and their tasks, as Label Studio has them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.tables.base import Base


class Project(Base):
    """A Label Studio project that Tiebreak keeps in its wanted state."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str] = mapped_column(Text, default="")
    label_config: Mapped[str] = mapped_column(Text, default="")
    config_problem: Mapped[str] = mapped_column(Text, default="")
    connected_at: Mapped[float] = mapped_column(Float)
    looked_at: Mapped[float | None] = mapped_column(Float)
    """When the last periodic look was."""
    compared_at: Mapped[float | None] = mapped_column(Float)
    """When everything, changed or not, was last compared with Label Studio."""
    cursor: Mapped[str] = mapped_column(String(40), default="")
    """The newest change of a task that was seen, as Label Studio dates it."""
    gone: Mapped[bool] = mapped_column(default=False)
    """The project no longer exists in Label Studio."""
    train_requested_at: Mapped[float | None] = mapped_column(Float)
    """When somebody asked for a training that has not been answered yet."""
    attempted: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the labels, config and backbone of the last training, kept or refused."""
    attempted_setup: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the config and backbone alone of the last training."""
    changed_at: Mapped[float | None] = mapped_column(Float)
    """When a label was last seen to change."""
    due_since: Mapped[float | None] = mapped_column(Float)
    """When enough labels had changed for a retraining."""
    champion: Mapped[int] = mapped_column(default=0)
    """Version that serves; 0 while nothing is learned."""
    history: Mapped[list[int]] = mapped_column(JSON, default=list)
    """Versions that served before it and can be gone back to, the last one last."""
    choosing: Mapped[bool] = mapped_column(default=True)
    """Whether the strategy chooses what comes next; else chance does."""
    payoff: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """What comparisons of the queue with chance have shown: see :mod:`backend.payoff`."""
    served: Mapped[str] = mapped_column(String(32), default="")
    """Name of the order that Label Studio was last told to go by."""
    pushing: Mapped[bool] = mapped_column(default=False)
    """A push began and was not seen to end, or the champion was changed by hand: ask Label Studio
    what it holds."""
    following: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Ids of the requests whose hints were followed and whose labels are not learned yet."""
    activity: Mapped[str] = mapped_column(Text, default="")
    waiting: Mapped[str] = mapped_column(Text, default="")
    error: Mapped[str] = mapped_column(Text, default="")
    failures: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float] = mapped_column(Float, default=0.0)


class Task(Base):
    """A task of Label Studio and what was pushed for it."""

    __tablename__ = "tasks"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    is_labeled: Mapped[bool] = mapped_column(default=False)
    """Label Studio needs no more annotations for it."""
    annotations: Mapped[int] = mapped_column(default=0)
    """Submitted annotations of people that are not skips."""
    skips: Mapped[int] = mapped_column(default=0)
    labelled_at: Mapped[float | None] = mapped_column(Float)
    """When the first annotation was submitted that is no skip, as Label Studio dates it."""
    updated_at: Mapped[str] = mapped_column(String(40), default="")
    pushed_version: Mapped[int | None] = mapped_column()
    pushed_order: Mapped[int | None] = mapped_column()
    """Number of the order among those of the version."""
    pushed_score: Mapped[float | None] = mapped_column(Float)
    """Empty where a push was not seen to end."""
