"""The web page: how every project stands, at a glance."""

from __future__ import annotations

from flask import Blueprint, render_template
from sqlalchemy import select

from backend.projects import project_status
from backend.services import services
from backend.tables import Project

bp = Blueprint(
    "pages",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)


@bp.get("/")
def status() -> str:
    """The status page."""
    settings = services().settings
    with services().store.read() as session:
        rows = session.scalars(select(Project).order_by(Project.id)).all()
        statuses = [project_status(session, row, settings.lease_seconds) for row in rows]
    return render_template(
        "status.html", projects=statuses, label_studio_url=settings.label_studio_url
    )
