"""The page of suspicious labels, the same as JSON, and the tab in Label Studio that holds them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, render_template

from backend.answers import QualityAnswer, SuspiciousAnswer, TabAnswer
from backend.bodies import read_payload
from backend.described import Description, described
from backend.errors import LabelStudioError
from backend.labelstudio import LabelStudio
from backend.labelstudio_tasks import field_filter
from backend.pages.asked import asked_project
from backend.payloads import TabPayload
from backend.quality import quality_json
from backend.services import services
from backend.settings import label_studio_access
from backend.suspicious import FEWEST_LABELS, suspicious_json
from backend.sync import controls_of
from backend.web_errors import RETRY_SECONDS, RequestError

TITLE = "Suspicious labels"
SHOWN = 100
"""As many labels are on the page."""

bp = Blueprint("suspicious", __name__, template_folder="templates")


@bp.get("/api/projects/<int:project_id>/suspicious")
@described(Description(answer=SuspiciousAnswer))
def suspicious(project_id: int) -> Response:
    """The labels of a project that are probably wrong, the worst first."""
    with services().store.read() as session:
        asked_project(session, project_id)
        return jsonify(suspicious_json(session, project_id))


@bp.get("/api/projects/<int:project_id>/quality")
@described(Description(answer=QualityAnswer))
def quality(project_id: int) -> Response:
    """How far annotators agree, how long a label takes them, and whether new images differ."""
    with services().store.read() as session:
        asked_project(session, project_id)
        return jsonify(quality_json(session, project_id))


@bp.post("/api/projects/<int:project_id>/suspicious/tab")
@described(Description(answer=TabAnswer, body=TabPayload, errors=(422,)))
def make_tab(project_id: int) -> Response:
    """Make the tab "Suspicious labels" in Label Studio, or fill it anew, with the worst ones.

    It holds exactly the tasks of as many labels as are asked for; a task that has several of them
    is there once. No label is changed.
    """
    most = read_payload(TabPayload).most
    with services().store.read() as session:
        asked_project(session, project_id)
        found = suspicious_json(session, project_id)["suspicious"]
    tasks = list(dict.fromkeys(entry["task"] for entry in found[:most]))
    if not tasks:
        raise RequestError(
            422, "nothing_suspicious", "No label is suspicious.", "There is nothing to show."
        )
    # Label Studio's own page knows no filter for a list of numbers, but any number of filters.
    filters = [field_filter("id", "equal", task) for task in tasks]
    settings = services().settings
    url, api_key = label_studio_access(settings)
    try:
        with LabelStudio(url, api_key, settings.label_studio_timeout) as client:
            view = client.save_view(project_id, TITLE, ("tasks:id",), filters, conjunction="or")
    except LabelStudioError as error:
        retry = {"Retry-After": str(RETRY_SECONDS)}
        raise RequestError(503, "label_studio", error.message, error.mend, retry) from None
    link = f"{settings.label_studio_link}/projects/{project_id}/data?tab={view.id}"
    return jsonify(title=TITLE, url=link, tasks=tasks)


@bp.get("/projects/<int:project_id>/suspicious")
@described(Description(media="text/html"))
def page(project_id: int) -> str:
    """The page of suspicious labels."""
    with services().store.read() as session:
        project = asked_project(session, project_id)
        found: dict[str, Any] = suspicious_json(session, project_id)
        keys = {control.name: control.data_key for control in controls_of(project)}
        people = quality_json(session, project_id)
    return render_template(
        "suspicious.html",
        project=project,
        found=found,
        shown=found["suspicious"][:SHOWN],
        keys=keys,
        quality=people,
        fewest=FEWEST_LABELS,
    )
