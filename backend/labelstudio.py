"""All that is said to Label Studio.

Plain HTTP, and not Label Studio's own Python SDK: importing that takes five seconds on two cores
(pandas and numpy come along), and it sends a POST again after any 5xx, so that a gateway's 504 in
the middle of a long import would store every prediction twice.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from backend.labelstudio_annotations import AnnotationCalls
from backend.labelstudio_connect import ConnectCalls
from backend.labelstudio_http import Transport
from backend.labelstudio_labelled import LabelledCalls
from backend.labelstudio_predictions import PredictionCalls
from backend.labelstudio_projects import ProjectCalls
from backend.labelstudio_types import Backend, Project, Task, View, Webhook

__all__ = ["Backend", "LabelStudio", "Project", "Task", "View", "Webhook"]


class LabelStudio(ProjectCalls, PredictionCalls, AnnotationCalls, LabelledCalls, ConnectCalls):
    """One Label Studio, seen by the user of one token. Safe to share between threads.

    ``url`` may have a sub-path. ``api_key`` is a legacy or a personal access token; it is sent to
    Label Studio's own address only. ``timeout`` is in seconds, for each wait on Label Studio.
    ``on_answer`` is called after each answer.

    Every call raises :class:`~backend.errors.LabelStudioError` or one of its kin.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        timeout: float = 60.0,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._http = Transport(url, api_key, timeout, on_answer=on_answer)
        self.url = self._http.address.url

    def __repr__(self) -> str:
        return f"<LabelStudio {self.url}>"

    def __enter__(self) -> LabelStudio:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def token_kind(self) -> str:
        """Which of Label Studio's two kinds of token it is, in words."""
        return "personal access token" if self._http.credentials.renewable else "legacy token"

    def authorization(self, renew: bool = False) -> str:
        """Value of the Authorization header, for :meth:`is_own` URLs only; ``renew`` after 401."""
        return self._http.credentials.authorization(renew)

    def is_own(self, url: str) -> bool:
        """Whether ``url`` lies in Label Studio's origin and sub-path."""
        return self._http.address.owns(url)

    def resolve_url(self, task_id: int, uri: str) -> str:
        """Address where Label Studio resolves a storage URI (``s3://…``) of a task."""
        return self._http.address.resolve_url(task_id, uri)

    def version(self) -> str:
        """Version of Label Studio, e.g. 1.23.2."""
        answer = self._http.get("/api/version")
        return str(answer.get("release", "")) if isinstance(answer, dict) else ""

    def whoami(self) -> dict[str, Any]:
        """The token's user: ``id``, ``email`` and more."""
        return dict(self._http.get("/api/current-user/whoami"))
