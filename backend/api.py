"""The JSON API that the page and other programs use."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from sqlalchemy import select

from backend.answers import AutoLabelAnswer, ProjectAnswer, ProjectsAnswer
from backend.described import Description, described
from backend.pages.asked import asked_project
from backend.projects import list_versions, project_status
from backend.promises import statuses_json
from backend.services import services
from backend.tables import Project
from backend.ticked_answers import TickedChoicesAnswer
from backend.ticked_choices import ticked_choices

bp = Blueprint("api", __name__, url_prefix="/api")


@bp.get("/projects")
@described(Description(answer=ProjectsAnswer))
def projects() -> Response:
    """How every project stands."""
    settings = services().settings
    with services().store.read() as session:
        rows = session.scalars(select(Project).order_by(Project.id)).all()
        return jsonify(
            projects=[
                project_status(session, p, settings.lease_seconds, services().counting).as_json()
                for p in rows
            ]
        )


@bp.get("/projects/<int:project_id>")
@described(Description(answer=ProjectAnswer))
def project(project_id: int) -> Response:
    """How one project stands, with all its versions."""
    settings = services().settings
    with services().store.read() as session:
        row = asked_project(session, project_id)
        status = project_status(session, row, settings.lease_seconds, services().counting).as_json()
        return jsonify(status | {"versions": list_versions(session, project_id)})


@bp.get("/projects/<int:project_id>/auto-label")
@described(Description(answer=AutoLabelAnswer))
def auto_label(project_id: int) -> Response:
    """How the promises of a project stand under which answers were accepted."""
    with services().store.read() as session:
        asked_project(session, project_id)
        return jsonify(runs=statuses_json(session, project_id))


@bp.get("/projects/<int:project_id>/ticked-choices")
@described(Description(answer=TickedChoicesAnswer))
def ticked(project_id: int) -> Response:
    """How often people change a ticked choice, and how often they differ from it when blind."""
    settings = services().settings
    with services().store.read() as session:
        row = asked_project(session, project_id)
        return jsonify(ticked_choices(session, row, settings.blind_share))
