"""The page of a project's images and labels: what is there, there twice, broken or out of place."""

from __future__ import annotations

from flask import Blueprint, render_template

from backend.broken_images import failed_images
from backend.dataset_view import copies, near_duplicates
from backend.described import Description, described
from backend.pages.asked import asked_project
from backend.projects import project_status
from backend.services import services

LIVE_SECONDS = 10
MOST_BROKEN = 500

bp = Blueprint("dataset_page", __name__)


@bp.get("/projects/<int:project_id>/dataset")
@described(Description(media="text/html"))
def show(project_id: int) -> str:
    """Counts, copies, near-duplicates, broken images, and labels that do not fit the config."""
    settings = services().settings
    with services().store.read() as session:
        project = asked_project(session, project_id)
        return render_template(
            "dataset.html",
            project=project_status(session, project, settings.lease_seconds, services().counting),
            copies=copies(session, project_id),
            near=near_duplicates(session, project_id),
            broken=failed_images(session, project_id, limit=MOST_BROKEN),
            live=LIVE_SECONDS,
        )
