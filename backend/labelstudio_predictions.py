"""Predictions in Label Studio: pushing them in bulk, and finding out what arrived."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from backend.errors import LabelStudioError, LabelStudioNotFound
from backend.labelstudio_tasks import TaskCalls, field_filter

logger = logging.getLogger(__name__)

Prediction = dict[str, Any]

# Label Studio stores 600 to 1,000 predictions a second, and recounts the project afterwards.
_SLOWEST_PER_SECOND = 100
_TRIES = 3
# The list joins a task's versions with commas and cuts the text there.
_CUT_AT = 500


class PredictionCalls(TaskCalls):
    """Calls about predictions; a part of :class:`backend.labelstudio.LabelStudio`."""

    def import_predictions(
        self,
        project_id: int,
        predictions: Sequence[Prediction],
        before: Callable[[], None] = lambda: None,
    ) -> int:
        """Store predictions (``{"task", "model_version", "score", "result"}``) in one request.
        ``before`` is called before it, and before each time that it is sent again.

        Returns how many were created. That is fewer than given when tasks were deleted (one
        unknown task makes Label Studio refuse the whole request, so it is sent again without
        them) or when Label Studio passes over an entry that it finds invalid. Repeating a call
        stores a second set of predictions.
        """
        remaining = list(predictions)
        for _ in range(_TRIES):
            if not remaining:
                return 0
            before()
            try:
                return self._import_predictions(project_id, remaining)
            except LabelStudioError as error:
                present = self._present(project_id, remaining, error)
                logger.info("%d tasks were deleted meanwhile.", len(remaining) - len(present))
                remaining = present
        before()
        return self._import_predictions(project_id, remaining)

    def delete_predictions(self, task_id: int, version: str) -> int:
        """Delete a task's predictions of a version, one by one; how many there were, none where the
        task is gone.

        For single tasks only: on SQLite, Label Studio fails people's submits during bulk deletes.
        """
        try:
            rows = self._http.get("/api/predictions/", {"task": task_id})
        except LabelStudioError as error:
            # It filters by the task, and calls the number of a deleted one a bad request.
            if error.status != 400 or "task" not in error.detail.lower():
                raise
            return 0
        found = [int(row["id"]) for row in rows if row.get("model_version") == version]
        for prediction_id in found:
            with contextlib.suppress(LabelStudioNotFound):
                self._http.call("DELETE", f"/api/predictions/{prediction_id}/")
        return len(found)

    def tasks_with_version(self, project_id: int, version: str) -> set[int]:
        """Numbers of the tasks that have a prediction of exactly that version."""
        # Label Studio looks for the text anywhere in the version, so v1 finds v10 too.
        containing = field_filter("predictions_model_versions", "contains", [version], "List")
        params = {"include": "id,predictions_model_versions"}
        found: set[int] = set()
        unsure: list[int] = []
        for page in self.pages(project_id, params, [containing]):
            for row in page:
                text = str(row.get("predictions_model_versions") or "")
                if version in text.split(","):
                    found.add(int(row["id"]))
                elif len(text) >= _CUT_AT:
                    unsure.append(int(row["id"]))
        return found | self._confirmed(project_id, version, unsure)

    def version_counts(self, project_id: int) -> dict[str, int]:
        """How many predictions the project has of each version."""
        answer = self._http.get(f"/api/projects/{project_id}/model-versions/")
        if not isinstance(answer, dict):
            return {}
        return {str(version): int(count) for version, count in answer.items()}

    def _import_predictions(self, project_id: int, predictions: Sequence[Prediction]) -> int:
        answer = self._http.call(
            "POST",
            f"/api/projects/{project_id}/import/predictions",
            json=list(predictions),
            timeout=self._http.timeout + len(predictions) / _SLOWEST_PER_SECOND,
        )
        created = answer.get("created") if isinstance(answer, dict) else None
        if not isinstance(created, int):
            raise LabelStudioError("Label Studio did not say how many predictions it stored.")
        return created

    def _present(
        self, project_id: int, predictions: Sequence[Prediction], error: LabelStudioError
    ) -> list[Prediction]:
        """Those whose task is still there; ``error`` again when that was not the reason."""
        if error.status != 400 or "task" not in error.detail.lower():
            raise error
        ids = self.task_ids(project_id)
        present = [p for p in predictions if p["task"] in ids]
        if len(present) == len(predictions):
            raise error
        return present

    def _confirmed(self, project_id: int, version: str, task_ids: Sequence[int]) -> set[int]:
        """Of the tasks, those with that version, by their predictions themselves."""
        found = set()
        for task_id in task_ids:
            rows = self._http.get("/api/predictions/", {"task": task_id})
            if any(row.get("model_version") == version for row in rows):
                found.add(task_id)
        return found
