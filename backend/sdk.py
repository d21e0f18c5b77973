"""The same model for hosts that run label-studio-ml 2 instead of ``tiebreak serve``.

:class:`Tiebreak` is what that package wants of a model: a ``LabelStudioMLBase`` that is made anew
for every request. What it answers, and what it notes, goes through the code of the server; images,
labels and versions are those of the settings of this process, and ``tiebreak trainer`` learns.

The package is not on the package index in version 2, so Tiebreak does not need it: without it this
module can be imported, and :class:`Tiebreak` answers with plain dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from backend.answering import note_event, predicted, register_config
from backend.errors import SetupError
from backend.payloads import Payload, PredictPayload, SetupPayload, WebhookPayload
from backend.services import Services, make_services
from backend.settings import load_settings

PACKAGE = "label_studio_ml"


class _Alone:
    """Stands in for ``LabelStudioMLBase`` where the package is not installed: what of it is used.

    What is set is known to this one object; the package keeps it in a cache.
    """

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        self._known: dict[str, str] = {} if label_config is None else {"label_config": label_config}
        self.setup()

    def setup(self) -> None:
        """Called once everything is known."""

    def get(self, key: str) -> str | None:
        """What was set."""
        return self._known.get(key)

    def set(self, key: str, value: str) -> None:
        """Keep a value."""
        self._known[key] = value


def _found(module: str, name: str) -> Any:
    """Something of the package; None where it is not installed, or is a version before 2."""
    try:
        return getattr(import_module(f"{PACKAGE}.{module}"), name, None)
    except ImportError:
        return None


_Response = _found("response", "ModelResponse")
_Base: Any = (_found("model", "LabelStudioMLBase") if _Response is not None else None) or _Alone


@lru_cache(maxsize=1)
def services() -> Services:
    """The database, the network and the settings, made once in this process."""
    return make_services(load_settings())


class Tiebreak(_Base):  # type: ignore[misc]
    """Predicts and learns as ``tiebreak serve`` does with ``tiebreak trainer`` beside it.

    ``project_id`` is the number of a Label Studio project, as text; ``label_config`` its config.
    """

    # More than the package asks for: Label Studio's own names of deletions and of several at once.
    TRAIN_EVENTS = (
        "ANNOTATION_CREATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED",
        "ANNOTATIONS_DELETED",
        "TASKS_CREATED",
        "TASKS_DELETED",
        "PROJECT_UPDATED",
        "START_TRAINING",
    )

    def setup(self) -> None:
        """Register the project with its config, and say which order of predictions serves it.

        Raises:
            LabelConfigError: nothing in the config can be learned.
            SetupError: the project's number is none.
        """
        config = self.get("label_config")
        if not self.project_id or not config:
            return  # a model that is made to ask for its health
        payload = _checked(SetupPayload, {"project": str(self.project_id), "schema": config})
        name = register_config(services().store, payload.project_id, payload.label_config)
        self.set("model_version", name)

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: object = None, **kwargs: object
    ) -> Any:
        """Predict tasks, one entry each and in their order, as ``POST /predict`` does.

        ``context`` and what else the host knows make no difference to whole images.

        Returns:
            A ``ModelResponse``; without the package a list of dictionaries with ``model_version``,
            ``score`` and ``result``.

        Raises:
            SetupError: the project is not named, or the tasks are no tasks.
        """
        body = {"tasks": list(tasks), "project": str(self.project_id) or None}
        payload = _checked(PredictPayload, {**body, "label_config": self.get("label_config")})
        if payload.project_id is None:
            raise SetupError(
                "The model was made without a project.",
                mend='Name it, as in Tiebreak(project_id="1").',
            )
        entries = predicted(services(), payload.project_id, payload)
        if _Response is None:
            return entries
        version = entries[0]["model_version"] if entries else self.get("model_version")
        return _Response(model_version=version, predictions=entries)

    def fit(self, event: str, data: Mapping[str, Any], **kwargs: object) -> dict[str, str]:
        """Note that something happened, as ``POST /webhook`` does; ``tiebreak trainer`` follows it.

        ``data`` is the body of the webhook, with or without its ``action``. It returns at once,
        which the annotator whose submit waits for it is glad of.

        Raises:
            SetupError: ``data`` is no body of a webhook.
        """
        payload = _checked(WebhookPayload, {**data, "action": event})
        return {"status": "noted" if note_event(services().store, payload) else "nothing to do"}


def _checked(model: type[Payload], content: Mapping[str, Any]) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SetupError(f"{where}: {first['msg']}.", mend="See docs/api.md.") from None
