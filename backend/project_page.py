"""The page of one project: how good it is, what is still needed, and what it takes for what."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from backend.audit_answers import answers_behind
from backend.described import Description, described
from backend.errors import SetupError
from backend.pages.asked import asked_project
from backend.project_view import control_views
from backend.projects import project_status
from backend.promises import run_statuses
from backend.quality import quality_json
from backend.services import services
from backend.sync import controls_of
from backend.tables import version_name
from backend.ticked_choices import ticked_choices
from backend.web_errors import RequestError
from model.errors import ArtifactError

LIVE_SECONDS = 10
MOST_ANSWERS = 500
NAME = {"type": "string", "maxLength": 1000}

bp = Blueprint("project_page", __name__)


@bp.get("/projects/<int:project_id>")
@described(Description(media="text/html"))
def show(project_id: int) -> str:
    """One project: learning curve, labels still needed, classes, confusion and calibration."""
    settings = services().settings
    with services().store.read() as session:
        project = asked_project(session, project_id)
        status = project_status(session, project, settings.lease_seconds, services().counting)
        views = control_views(session, project, settings)
        promises = run_statuses(session, project_id)
        people = quality_json(session, project_id)
        ticked = ticked_choices(session, project, settings.blind_share)
    return render_template(
        "project.html",
        project=status,
        controls=views,
        promises=promises,
        ticked=ticked,
        quality=people,
        live=LIVE_SECONDS,
    )


@bp.get("/projects/<int:project_id>/answers")
@described(
    Description(
        media="text/html", query={"control": NAME, "truth": NAME, "said": NAME}, errors=(422,)
    )
)
def answers(project_id: int) -> str:
    """The audit images that people call ``truth`` and the version that serves calls ``said``."""
    truth, said = request.args.get("truth", ""), request.args.get("said", "")
    with services().store.read() as session:
        project = asked_project(session, project_id)
        named = {control.name: control for control in controls_of(project)}
        control = named.get(request.args.get("control", ""))
        if control is None or not (truth or said):
            raise RequestError(
                404,
                "no_such_answers",
                "The address names no control, or no class of it.",
                f"Open it from a table of /projects/{project_id}.",
            )
        try:
            found = answers_behind(session, project, control, services().settings, truth, said)
        except (ArtifactError, SetupError) as error:
            raise RequestError(422, "no_files", error.message, error.mend) from None
    return render_template(
        "answers.html",
        project=project,
        version=version_name(project.champion),
        control=control,
        truth=truth,
        said=said,
        answers=found[:MOST_ANSWERS],
        more=max(0, len(found) - MOST_ANSWERS),
    )
