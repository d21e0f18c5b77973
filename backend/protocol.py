"""The routes that Label Studio calls."""

from __future__ import annotations

import contextlib
import logging
import re

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import select

from backend.answers import (
    HealthAnswer,
    NotedAnswer,
    PredictAnswer,
    SetupAnswer,
    VersionsAnswer,
)
from backend.bodies import read_payload
from backend.described import Description, described
from backend.errors import LabelConfigError
from backend.hints import add_hint
from backend.label_config import parse_label_config
from backend.log_context import note
from backend.metrics import count_webhook
from backend.openapi import NUMBER
from backend.orders import wanted_name
from backend.payloads import (
    LARGEST_ID,
    PredictPayload,
    RemoteProject,
    SetupPayload,
    TrainPayload,
    WebhookPayload,
)
from backend.projects import register_project
from backend.services import services
from backend.tables import Project, Version, version_name
from backend.web_errors import RequestError
from model.errors import StorageError

log = logging.getLogger(__name__)

PROJECT_ACTIONS = {"PROJECT_CREATED", "PROJECT_UPDATED", "PROJECT_DELETED"}

bp = Blueprint("protocol", __name__)


@bp.get("/health")
@described(Description(answer=HealthAnswer, open=True))
def health() -> Response:
    """Say that the server answers. Touches neither the database nor the network."""
    return jsonify(status="UP", model_class="Tiebreak")


@bp.post("/setup")
@described(Description(answer=SetupAnswer, body=SetupPayload))
def setup() -> Response:
    """Register a project with its config; answer the order that serves it."""
    payload = read_payload(SetupPayload)
    note(project=payload.project_id)
    try:
        parse_label_config(payload.label_config)
    except LabelConfigError as error:
        raise RequestError(400, "nothing_to_learn", error.message, error.mend) from None
    register_project(services().store, payload.project_id, label_config=payload.label_config)
    with services().store.read() as session:
        name = wanted_name(session, session.get_one(Project, payload.project_id))
    return jsonify(model_version=name)


@bp.post("/predict")
@described(Description(answer=PredictAnswer, body=PredictPayload))
def predict() -> Response:
    """Predict tasks: exactly one entry per task, in their order."""
    payload = read_payload(PredictPayload)
    project_id = payload.project_id
    if project_id is None:
        raise RequestError(
            400,
            "no_project",
            "The payload names no project.",
            'Name it, as in "project": "1.1795313858".',
        )
    note(project=project_id)
    most = services().settings.predict_max_tasks
    if len(payload.tasks) > most:
        raise RequestError(
            413,
            "too_many_tasks",
            f"The payload has {len(payload.tasks):,} tasks; {most:,} is the most.",
            "Send fewer tasks at a time, or raise TIEBREAK_PREDICT_MAX_TASKS.",
        )
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
@described(Description(answer=NotedAnswer, body=WebhookPayload))
def webhook() -> Response:
    """Keep a hint and answer at once; the trainer follows it."""
    payload = read_payload(WebhookPayload)
    note(project=payload.project.id)
    count_webhook(payload.action)
    train = payload.action == "START_TRAINING"
    task_ids: list[int] | None = payload.task_ids or None
    if payload.action in PROJECT_ACTIONS and not _config_changed(payload.project):
        return jsonify(status="nothing to do")
    _hint(payload.project, payload.action, task_ids, train=train)
    return jsonify(status="noted")


@bp.post("/train")
@described(Description(answer=NotedAnswer, body=TrainPayload))
def train() -> Response:
    """Ask for a training now; the same as Label Studio's Start Training button."""
    payload = read_payload(TrainPayload)
    note(project=payload.project.id)
    _hint(payload.project, "START_TRAINING", None, train=True)
    return jsonify(status="noted")


@bp.get("/versions")
@described(Description(answer=VersionsAnswer, query={"project": NUMBER}))
def versions() -> Response:
    """Names of the versions that served or serve. Label Studio asks without naming a project."""
    wanted = _wanted_project()
    with services().store.read() as session:
        query = select(Version.number).where(Version.kept, ~Version.pruned).distinct()
        if wanted is not None:
            query = query.where(Version.project_id == wanted)
        numbers = sorted(session.scalars(query), reverse=True)
    return jsonify(versions=[version_name(number) for number in numbers] or [version_name(0)])


def _wanted_project() -> int | None:
    """The project that the query names, if it names one."""
    sent = request.args.get("project")
    if sent is None:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", sent) or int(sent) > LARGEST_ID:
        raise RequestError(
            400,
            "bad_project",
            "project: not the number of a project.",
            "Give a number, as in /versions?project=1.",
        )
    return int(sent)


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
