"""Images: which task shows which, where they come from, what is known of them."""

from __future__ import annotations

from sqlalchemy import Float, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.tables.base import Base


class TaskImage(Base):
    """The image that a task shows under one data key."""

    __tablename__ = "task_images"
    __table_args__ = (Index("task_images_source", "source"),)

    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    task_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data_key: Mapped[str] = mapped_column(String(255), primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the URI, the key of :class:`ImageSource`."""


class ImageSource(Base):
    """What became of an image URI: the digest of its bytes, or why it cannot be had."""

    __tablename__ = "image_sources"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str | None] = mapped_column(String(64), index=True)
    failure: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float | None] = mapped_column(Float)
    """When to try again; never, where it is empty and there is a failure."""


class Embedding(Base):
    """An image's embedding by one backbone: float16, little-endian."""

    __tablename__ = "embeddings"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    backbone: Mapped[str] = mapped_column(String(120), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class ImageGroup(Base):
    """Which near-duplicates an image belongs to. Written once and never changed."""

    __tablename__ = "image_groups"
    __table_args__ = (Index("image_groups_digest", "project_id", "digest", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    """Ascends in the order in which the groups were found."""
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(String(64))
    leader: Mapped[str] = mapped_column(String(64))
    """Digest of the image that the others of the group are near; its own, where it leads."""
