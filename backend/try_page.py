"""The page on which people try images on a project's model, and what it asks the server for."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, render_template, send_file

from backend.answers import ExplanationAnswer, NewTaskAnswer
from backend.bodies import read_payload
from backend.described import Description, described
from backend.log_context import note
from backend.pages.asked import asked_project
from backend.payloads import ExplainPayload, NewTaskPayload
from backend.services import services
from backend.sync import controls_of
from backend.web_errors import RequestError
from model.errors import ArgumentError

bp = Blueprint("try_page", __name__)


@bp.get("/projects/<int:project_id>/try")
@described(Description(media="text/html"))
def show(project_id: int) -> str:
    """Try images: what the model says of them and where it sees it; correct it, and retrain."""
    with services().store.read() as session:
        project = asked_project(session, project_id)
    controls = controls_of(project)
    return render_template(
        "try.html",
        project=project,
        controls=controls,
        one_image=len({control.data_key for control in controls}) == 1,
        most_bytes=services().settings.image_max_bytes,
    )


@bp.post("/api/projects/<int:project_id>/explain")
@described(Description(answer=ExplanationAnswer, body=ExplainPayload))
def explain(project_id: int) -> Response:
    """Say what the version that serves sees in an image, and where."""
    payload = read_payload(ExplainPayload)
    note(project=project_id)
    with services().store.read() as session:
        asked_project(session, project_id)
    found = services().trials.explain(project_id, payload.uri, payload.control, payload.class_name)
    return jsonify(found)


@bp.post("/api/projects/<int:project_id>/tasks")
@described(Description(answer=NewTaskAnswer, body=NewTaskPayload))
def make_task(project_id: int) -> Response:
    """Make an image a labelled task of the project in Label Studio."""
    payload = read_payload(NewTaskPayload)
    note(project=project_id)
    with services().store.read() as session:
        controls = controls_of(asked_project(session, project_id))
    task = services().trials.make_task(
        project_id,
        controls,
        payload.uri,
        payload.name,
        payload.choices,
        train=payload.train,
    )
    return jsonify(task=task, training=payload.train)


@bp.get("/images/<digest>")
@described(Description(media="*/*"))
def image(digest: str) -> Response:
    """The working copy of the image with this SHA-256."""
    copies = services().trials.copies
    try:
        found = copies.has(digest)
    except ArgumentError:
        found = False
    if not found:
        raise RequestError(
            404, "no_image", "There is no working copy of that image.", "Fetch the image anew."
        )
    return send_file(copies.path(digest).resolve())
