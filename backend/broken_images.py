"""Images of a project that cannot be had."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.tables import ImageSource, Task, TaskImage


def failed_images(session: Session, project_id: int, limit: int = 100) -> list[tuple[int, str]]:
    """Tasks whose image cannot be had, with the reason."""
    query = (
        select(TaskImage.task_id, ImageSource.failure)
        .join(ImageSource, ImageSource.source == TaskImage.source)
        .where(
            TaskImage.project_id == project_id,
            ImageSource.digest.is_(None),
            ImageSource.failure != "",
        )
        .order_by(TaskImage.task_id)
        .limit(limit)
    )
    return [(task_id, failure) for task_id, failure in session.execute(query)]


def broken_tasks(session: Session, project_id: int) -> set[int]:
    """Tasks that have no image at all, or only images that cannot be had."""
    pending_or_ready = (
        select(TaskImage.task_id)
        .outerjoin(ImageSource, ImageSource.source == TaskImage.source)
        .where(
            TaskImage.project_id == project_id,
            ImageSource.source.is_(None)
            | ImageSource.digest.is_not(None)
            | (ImageSource.failure == ""),
        )
    )
    return set(
        session.scalars(
            select(Task.id).where(Task.project_id == project_id, Task.id.not_in(pending_or_ready))
        )
    )


def next_retry(session: Session, project_id: int) -> float | None:
    """When the next image is tried again."""
    return session.scalar(
        select(func.min(ImageSource.retry_at))
        .join(TaskImage, TaskImage.source == ImageSource.source)
        .where(TaskImage.project_id == project_id, ImageSource.digest.is_(None))
    )
