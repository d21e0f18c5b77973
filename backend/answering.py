"""What is behind the routes that Label Studio calls, whatever took the call."""

from __future__ import annotations

import contextlib
from typing import Any

from backend.hints import add_hint
from backend.label_config import parse_label_config
from backend.orders import wanted_name
from backend.payloads import PredictPayload, RemoteProject, WebhookPayload
from backend.projects import register_project
from backend.services import Services
from backend.store import Store
from backend.tables import Project
from model.errors import StorageError

PROJECT_ACTIONS = {"PROJECT_CREATED", "PROJECT_UPDATED", "PROJECT_DELETED"}
START_TRAINING = "START_TRAINING"


def register_config(store: Store, project_id: int, label_config: str) -> str:
    """Register a project with its config; name of the order that serves it.

    :class:`LabelConfigError` when the config has nothing to learn.
    """
    parse_label_config(label_config)
    register_project(store, project_id, label_config=label_config)
    with store.read() as session:
        return wanted_name(session, session.get_one(Project, project_id))


def predicted(services: Services, project_id: int, payload: PredictPayload) -> list[dict[str, Any]]:
    """Of each task in its order ``model_version``, ``score`` and ``result``."""
    if payload.label_config:
        # What cannot be written down now is told again with the next request.
        with contextlib.suppress(StorageError):
            register_project(services.store, project_id, label_config=payload.label_config)
    version, found = services.predictor.predict(project_id, payload.tasks, payload.label_config)
    return [{"model_version": version, "score": p.score, "result": p.result} for p in found]


def note_event(store: Store, payload: WebhookPayload) -> bool:
    """Keep a hint that the trainer follows; False where there is nothing to follow."""
    if payload.action in PROJECT_ACTIONS and not _config_changed(store, payload.project):
        return False
    train = payload.action == START_TRAINING
    _hint(store, payload.project, payload.action, payload.task_ids or None, train=train)
    return True


def note_training(store: Store, project: RemoteProject) -> None:
    """Ask for a training now."""
    _hint(store, project, START_TRAINING, None, train=True)


def _config_changed(store: Store, project: RemoteProject) -> bool:
    """Most updates of a project are our own, of its version; only a new config matters."""
    with store.read() as session:
        known = session.get(Project, project.id)
    return known is not None and project.label_config not in (None, known.label_config)


def _hint(
    store: Store, project: RemoteProject, action: str, task_ids: list[int] | None, *, train: bool
) -> None:
    if not add_hint(store, project.id, action, task_ids, train=train):
        register_project(store, project.id, title=project.title, label_config=project.label_config)
        add_hint(store, project.id, action, task_ids, train=train)
