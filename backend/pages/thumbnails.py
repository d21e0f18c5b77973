"""Small pictures of tasks, made from the working copies."""

from __future__ import annotations

import io

from flask import Blueprint, Response, request
from sqlalchemy import select

from backend.described import Description, described
from backend.errors import ImageError
from backend.pages.asked import asked_project
from backend.payloads import LARGEST_ID
from backend.services import services
from backend.tables import ImageSource, TaskImage
from backend.web_errors import RequestError

SIDE = 192
"""Longer side in pixels."""

bp = Blueprint("thumbnails", __name__)


@bp.get("/projects/<int:project_id>/thumbnails/<int:task_id>")
@described(Description(media="image/jpeg", query={"key": {"type": "string"}}))
def thumbnail(project_id: int, task_id: int) -> Response:
    """The image of a task, small: the one under ``key`` of its data, or else the first."""
    digest = _digest(project_id, task_id, request.args.get("key"))
    try:
        picture = services().copies.open(digest) if digest else None
    except ImageError:
        picture = None
    if picture is None:
        raise RequestError(
            404,
            "no_image",
            f"Task {task_id} has no image here.",
            "The project's page says which images cannot be had, and why.",
        )
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return Response(buffer.getvalue(), mimetype="image/jpeg")


def _digest(project_id: int, task_id: int, key: str | None) -> str | None:
    with services().store.read() as session:
        asked_project(session, project_id)
        if task_id > LARGEST_ID or (key is not None and "\0" in key):
            return None
        query = (
            select(ImageSource.digest)
            .join(TaskImage, TaskImage.source == ImageSource.source)
            .where(TaskImage.project_id == project_id, TaskImage.task_id == task_id)
            .order_by(TaskImage.data_key)
        )
        if key is not None:
            query = query.where(TaskImage.data_key == key)
        return session.scalar(query.limit(1))
