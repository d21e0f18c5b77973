"""The routes that Label Studio calls."""

from __future__ import annotations

import contextlib
import hmac
import logging
from typing import TypeVar

from flask import Blueprint, Response, current_app, jsonify, request
from pydantic import ValidationError
from sqlalchemy import select

from backend.errors import LabelConfigError
from backend.hints import add_hint
from backend.label_config import parse_label_config
from backend.orders import wanted_name
from backend.payloads import (
    Payload,
    PredictPayload,
    RemoteProject,
    SetupPayload,
    TrainPayload,
    WebhookPayload,
)
from backend.projects import register_project
from backend.secrets import SECRET_HEADER
from backend.services import services
from backend.tables import Project, Version, version_name
from backend.web_errors import RequestError
from model.errors import StorageError

log = logging.getLogger(__name__)

PROJECT_ACTIONS = {"PROJECT_CREATED", "PROJECT_UPDATED", "PROJECT_DELETED"}

bp = Blueprint("protocol", __name__)

Body = TypeVar("Body", bound=Payload)


@bp.get("/health")
def health() -> Response:
    """Say that the server answers. Touches neither the database nor the network."""
    return jsonify(status="UP", model_class="Tiebreak")


@bp.post("/setup")
def setup() -> Response:
    """Register a project with its config; answer the order that serves it."""
    payload = _body(SetupPayload)
    try:
        parse_label_config(payload.label_config)
    except LabelConfigError as error:
        raise RequestError(400, "nothing_to_learn", error.message, error.mend) from None
    register_project(services().store, payload.project_id, label_config=payload.label_config)
    with services().store.read() as session:
        name = wanted_name(session, session.get_one(Project, payload.project_id))
    return jsonify(model_version=name)


@bp.post("/predict")
def predict() -> Response:
    """Predict tasks: exactly one entry per task, in their order."""
    payload = _body(PredictPayload)
    project_id = payload.project_id
    if project_id is None:
        raise RequestError(400, "no_project", "The payload names no project.")
    if payload.label_config:
        # What cannot be written down now is told again with the next request.
        with contextlib.suppress(StorageError):
            register_project(services().store, project_id, label_config=payload.label_config)
    version, predictions = services().predictor.predict(
        project_id, payload.tasks, payload.label_config
    )
    return jsonify(
        results=[
            {"model_version": version, "score": p.score, "result": p.result} for p in predictions
        ]
    )


@bp.post("/webhook")
def webhook() -> Response:
    """Keep a hint and answer at once; the trainer follows it."""
    _check_secret()
    payload = _body(WebhookPayload)
    train = payload.action == "START_TRAINING"
    task_ids: list[int] | None = payload.task_ids or None
    if payload.action in PROJECT_ACTIONS and not _config_changed(payload.project):
        return jsonify(status="nothing to do")
    _hint(payload.project, payload.action, task_ids, train=train)
    return jsonify(status="noted")


@bp.post("/train")
def train() -> Response:
    """Ask for a training now; the same as Label Studio's Start Training button."""
    payload = _body(TrainPayload)
    _hint(payload.project, "START_TRAINING", None, train=True)
    return jsonify(status="noted")


@bp.get("/versions")
def versions() -> Response:
    """Names of the versions that served or serve. Label Studio asks without naming a project."""
    wanted = request.args.get("project", type=int)
    with services().store.read() as session:
        query = select(Version.number).where(Version.kept, ~Version.pruned).distinct()
        if wanted is not None:
            query = query.where(Version.project_id == wanted)
        numbers = sorted(session.scalars(query), reverse=True)
    return jsonify(versions=[version_name(number) for number in numbers] or [version_name(0)])


def _body(model: type[Body]) -> Body:
    """The request's JSON as ``model``; a clear 400 for anything else."""
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise RequestError(
            400,
            "bad_payload",
            f"{where}: {first['msg']}.",
            "Send JSON as docs/api.md describes it.",
        ) from None


def _config_changed(project: RemoteProject) -> bool:
    """Most updates of a project are our own, of its version; only a new config matters."""
    with services().store.read() as session:
        known = session.get(Project, project.id)
    return known is not None and project.label_config not in (None, known.label_config)


def _hint(project: RemoteProject, action: str, task_ids: list[int] | None, *, train: bool) -> None:
    store = services().store
    if not add_hint(store, project.id, action, task_ids, train=train):
        register_project(store, project.id, title=project.title, label_config=project.label_config)
        add_hint(store, project.id, action, task_ids, train=train)


def _check_secret() -> None:
    """A wrong secret is refused. None at all is let in: Label Studio cannot send one on
    START_TRAINING, and all that a hint can do is make the trainer look."""
    sent = request.headers.get(SECRET_HEADER)
    wanted = current_app.config["WEBHOOK_SECRET"]
    if sent is not None and not hmac.compare_digest(sent.encode(), wanted.encode()):
        raise RequestError(
            401,
            "wrong_secret",
            f"The header {SECRET_HEADER} does not hold this backend's secret.",
            "Run `tiebreak connect` for the project again: it writes the webhook anew.",
        )
