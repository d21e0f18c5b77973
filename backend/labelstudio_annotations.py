"""Making and deleting annotations in Label Studio, one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from backend.errors import LabelStudioError, LabelStudioNotFound
from backend.labelstudio_http import Transport


class AnnotationCalls:
    """Calls about annotations; a part of :class:`backend.labelstudio.LabelStudio`."""

    _http: Transport

    def create_annotation(self, task_id: int, result: Sequence[dict[str, Any]]) -> int:
        """Submit an annotation as the token's user; its number. Repeating makes a second one.

        :class:`LabelStudioNotFound` when the task is gone.
        """
        body = {"result": list(result), "was_cancelled": False, "ground_truth": False}
        answer = self._http.call("POST", f"/api/tasks/{task_id}/annotations/", json=body)
        number = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(number, int):
            raise LabelStudioError("Label Studio did not say which annotation it made.")
        return number

    def delete_annotation(self, annotation_id: int) -> None:
        """Delete an annotation; nothing where it is gone."""
        with contextlib.suppress(LabelStudioNotFound):
            self._http.call("DELETE", f"/api/annotations/{annotation_id}/")
