"""Probabilities → the predictions that Label Studio stores and shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.label_config import Control
from model.artifact import Artifact
from model.head import Head
from model.queue import LAST_SCORE, queue_scores, shuffled_score
from model.uncertainty import uncertainty

CHOSEN_FROM = 0.5
"""A class of a multiple choice is ticked from this probability on."""


@dataclass(frozen=True)
class Prediction:
    """What is answered for one task: the ticked choices and the place in the queue.

    ``score`` is in [0, 1]; lower is labelled sooner.
    """

    score: float
    result: list[dict[str, Any]]


def unlearned_prediction(project_id: int, task_id: int, seed: int) -> Prediction:
    """The prediction while nothing is learned: no choice, a place in a fixed random order."""
    return Prediction(shuffled_score(f"{project_id}:{task_id}", seed), [])


def missing_image_prediction() -> Prediction:
    """The prediction for a task whose image cannot be had: no choice, served last."""
    return Prediction(LAST_SCORE, [])


def predict_tasks(
    artifact: Artifact,
    controls: Sequence[Control],
    embeddings: Mapping[str, tuple[Sequence[int] | NDArray[Any], NDArray[Any]]],
    strategy: str,
) -> dict[int, Prediction]:
    """Predictions of the champion for tasks with embeddings.

    Args:
        embeddings: data key → (task ids (n,), embeddings (n, width)).

    Returns:
        Task id → prediction, for every task with an embedding for at least one learned control.
        Where there are several controls, the least certain one decides the place in the queue.
    """
    scores: dict[int, float] = {}
    results: dict[int, list[dict[str, Any]]] = {}
    for control in controls:
        head = artifact.heads.get(control.name)
        task_ids, vectors = embeddings.get(control.data_key, ((), np.zeros((0, 0))))
        if head is None or not len(task_ids):
            continue
        head_classes, probabilities = _current_classes(head, control, vectors)
        if not head_classes:
            continue
        control_scores = queue_scores([uncertainty(strategy, probabilities, control.multiple)])
        for position, task_id in enumerate(int(t) for t in task_ids):
            score = float(control_scores[position])
            scores[task_id] = min(score, scores.get(task_id, score))
            choice = _choice(task_id, control, head_classes, probabilities[position])
            results.setdefault(task_id, []).extend(choice)
    return {task_id: Prediction(score, results[task_id]) for task_id, score in scores.items()}


def _current_classes(
    head: Head, control: Control, vectors: NDArray[Any]
) -> tuple[list[str], NDArray[Any]]:
    """The head's classes that the config still has, and their probabilities."""
    kept = [i for i, name in enumerate(head.classes) if name in control.classes]
    probabilities = head.probabilities(vectors)[:, kept]
    if not control.multiple and kept and len(kept) < len(head.classes):
        total = probabilities.sum(axis=1, keepdims=True)
        probabilities = np.where(total > 0, probabilities / np.maximum(total, 1e-12), 1 / len(kept))
    return [head.classes[i] for i in kept], probabilities


def _choice(
    task_id: int, control: Control, classes: Sequence[str], probabilities: NDArray[Any]
) -> list[dict[str, Any]]:
    if control.multiple:
        picked = [i for i, p in enumerate(probabilities) if p >= CHOSEN_FROM]
    else:
        picked = [int(probabilities.argmax())]
    if not picked:
        return []
    return [
        {
            "id": hashlib.sha256(f"{task_id}:{control.name}".encode()).hexdigest()[:10],
            "from_name": control.name,
            "to_name": control.to_name,
            "type": "choices",
            "score": round(float(min(probabilities[i] for i in picked)), 6),
            "value": {"choices": [classes[i] for i in picked]},
        }
    ]
