"""The routes that Label Studio calls."""

from __future__ import annotations

import logging
import re

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import select

from backend.answering import note_event, note_training, predicted, register_config
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
from backend.log_context import note
from backend.metrics import count_webhook
from backend.openapi import NUMBER
from backend.payloads import (
    LARGEST_ID,
    PredictPayload,
    SetupPayload,
    TrainPayload,
    WebhookPayload,
)
from backend.services import services
from backend.tables import Version, version_name
from backend.web_errors import RequestError

log = logging.getLogger(__name__)

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
        name = register_config(services().store, payload.project_id, payload.label_config)
    except LabelConfigError as error:
        raise RequestError(400, "nothing_to_learn", error.message, error.mend) from None
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
    return jsonify(results=predicted(services(), project_id, payload))


@bp.post("/webhook")
@described(Description(answer=NotedAnswer, body=WebhookPayload))
def webhook() -> Response:
    """Keep a hint and answer at once; the trainer follows it."""
    payload = read_payload(WebhookPayload)
    note(project=payload.project.id)
    count_webhook(payload.action)
    noted = note_event(services().store, payload)
    return jsonify(status="noted" if noted else "nothing to do")


@bp.post("/train")
@described(Description(answer=NotedAnswer, body=TrainPayload))
def train() -> Response:
    """Ask for a training now; the same as Label Studio's Start Training button."""
    payload = read_payload(TrainPayload)
    note(project=payload.project.id)
    note_training(services().store, payload.project)
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
