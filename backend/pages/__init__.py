"""The web page: how every project stands, at a glance."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, render_template, send_from_directory
from sqlalchemy import select

from backend.described import Description, described
from backend.projects import project_status
from backend.services import services
from backend.tables import Project

STATIC = Path(__file__).with_name("static")

bp = Blueprint("pages", __name__, template_folder="templates")


@bp.get("/")
@described(Description(media="text/html"))
def status() -> str:
    """The status page."""
    settings = services().settings
    with services().store.read() as session:
        rows = session.scalars(select(Project).order_by(Project.id)).all()
        statuses = [project_status(session, row, settings.lease_seconds) for row in rows]
    return render_template(
        "status.html", projects=statuses, label_studio_url=settings.label_studio_link
    )


@bp.get("/static/<path:filename>")
@described(Description(media="*/*"))
def static(filename: str) -> Response:
    """The page's style sheet and icon."""
    return send_from_directory(STATIC, filename)
