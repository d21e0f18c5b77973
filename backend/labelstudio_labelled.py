"""A new task with an annotation of ours, in Label Studio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.errors import LabelStudioError
from backend.labelstudio_http import Transport


class LabelledCalls:
    """Calls that make a labelled task; a part of :class:`backend.labelstudio.LabelStudio`.

    None of them is repeated when its answer is lost: a task may then be there without its label.
    """

    _http: Transport

    def upload_image(self, project_id: int, name: str, data: bytes, media: str) -> int:
        """Upload an image file into Label Studio's own storage; the number of its new task."""
        files = {"file": (name, data, media)}
        return self._one_task(project_id, files=files)

    def add_task(self, project_id: int, data: Mapping[str, str]) -> int:
        """Make a task of data that names its image; its number."""
        return self._one_task(project_id, json=[{"data": dict(data)}])

    def annotate(self, task_id: int, result: list[dict[str, Any]]) -> None:
        """Submit an annotation as the user of the token."""
        self._http.call("POST", f"/api/tasks/{task_id}/annotations/", json={"result": result})

    def _one_task(self, project_id: int, **arguments: Any) -> int:
        path = f"/api/projects/{project_id}/import"
        params = {"return_task_ids": "true"}
        answer = self._http.call("POST", path, params=params, **arguments)
        made = answer.get("task_ids") if isinstance(answer, dict) else None
        if not isinstance(made, list) or len(made) != 1 or not isinstance(made[0], int):
            raise LabelStudioError("Label Studio did not say which task it made.")
        return made[0]
