"""What was learned: versions, the orders of their queues, and fine-tunes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.tables.base import Base, order_name


class Version(Base):
    """A trained model: the champion, one that was, or a challenger that was refused."""

    __tablename__ = "versions"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[float] = mapped_column(Float)
    kept: Mapped[bool] = mapped_column()
    reason: Mapped[str] = mapped_column(Text)
    labels: Mapped[int] = mapped_column()
    backbone: Mapped[str] = mapped_column(String(120))
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    pruned: Mapped[bool] = mapped_column(default=False)
    """Its files were removed."""
    files: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """Digest that names its objects in the shared bucket; empty where only a folder has it."""


class Order(Base):
    """One order of the queue: the places that were given to the tasks of one moment.

    Never changed, but that the places are forgotten once the version has a newer order.
    """

    __tablename__ = "orders"

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    created_at: Mapped[float] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text)
    """Why it was made."""
    strategy: Mapped[str] = mapped_column(String(40))
    audit_share: Mapped[float] = mapped_column(Float)
    """Share of the images that were in the audit set."""
    pace: Mapped[float] = mapped_column(Float)
    """Share of the audit set in what is served."""
    known: Mapped[int] = mapped_column()
    """Tasks whose images were known, labelled ones too."""
    picks: Mapped[list[int]] = mapped_column(JSON)
    """The tasks that the strategy picked, the first one first."""
    places: Mapped[bytes] = mapped_column(LargeBinary)
    scale: Mapped[dict[str, list[list[float]]]] = mapped_column(JSON)
    """Where a task that comes later has its place: see :mod:`backend.orders`."""
    last_task: Mapped[int] = mapped_column(default=0)
    """Largest number of a task that was there; 0 without any."""

    @property
    def name(self) -> str:
        """What Label Studio calls it."""
        return order_name(self.version, self.number)


class FineTune(Base):
    """One fine-tune of a project's backbone, from the wish for it to what came of it.

    At most one of a project is under way; :mod:`backend.finetunes` names the states.
    """

    __tablename__ = "finetunes"
    __table_args__ = (Index("finetunes_project", "project_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(12))
    asked: Mapped[bool] = mapped_column(default=False)
    """Somebody asked for it; else it was due."""
    cancel: Mapped[bool] = mapped_column(default=False)
    """Somebody asked to give it up."""
    base: Mapped[str] = mapped_column(String(120), default="")
    """Identity of the original backbone that it starts from."""
    labels: Mapped[int] = mapped_column(default=0)
    """How many labels it learns from, those held out not counted."""
    digest: Mapped[str] = mapped_column(String(64), default="")
    """Digest of the labels and the config that it learns from."""
    backbone: Mapped[str] = mapped_column(String(120), default="")
    """Identity of the tuned network, once there is one."""
    version: Mapped[int | None] = mapped_column()
    """The version that came of it."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Failures in a row without a finished epoch between them."""
    reason: Mapped[str] = mapped_column(Text, default="")
    """What came of it, or why it failed last."""
    progress: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    owner: Mapped[str] = mapped_column(String(120), default="")
    """The trainer whose child process learns."""
    request_id: Mapped[str] = mapped_column(String(64), default="")
    """The request that it follows."""
    wanted_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    retry_at: Mapped[float] = mapped_column(Float, default=0.0)
