"""The page of the next images in the queue."""

from __future__ import annotations

from flask import Blueprint, render_template

from backend.described import Description, described
from backend.pages.asked import asked_project
from backend.projects import project_status
from backend.promises import check_tasks
from backend.queue_view import next_in_queue
from backend.services import services
from backend.withholding import Withholding

LIVE_SECONDS = 10
MOST = 60

bp = Blueprint("queue_page", __name__)


@bp.get("/projects/<int:project_id>/queue")
@described(Description(media="text/html"))
def show(project_id: int) -> str:
    """The next images in the queue, what the model says of each, and why it stands there."""
    artifact = services().champions.get(project_id)
    settings = services().settings
    with services().store.read() as session:
        project = asked_project(session, project_id)
        status = project_status(session, project, settings.lease_seconds, services().counting)
        withholding = Withholding.of(project.id, settings, check_tasks(session, project.id))
        waiting = next_in_queue(session, project, artifact, withholding, MOST)
    return render_template("queue.html", project=status, waiting=waiting, live=LIVE_SECONDS)
