"""Probabilities → the predictions that Label Studio stores and shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.label_config import Control
from backend.withholding import TICKED
from model.artifact import Artifact
from model.head import Head
from model.queue import LAST_SCORE, queue_scores, shuffled_score
from model.thresholds import NEUTRAL
from model.uncertainty import uncertainty

AT_ONCE = 16_384
"""Images that are asked about at a time."""


@dataclass(frozen=True)
class Offer:
    """What a version would tick for one control of a task, and whether people see it.

    ``state``  :data:`~backend.withholding.TICKED`, or why it is withheld
    """

    state: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """What is answered for one task: the ticked choices and the place in the queue.

    ``score`` is in [0, 1]; lower is labelled sooner. ``offers``: control → what the version says,
    also where no choice is ticked.
    """

    score: float
    result: list[dict[str, Any]]
    offers: Mapping[str, Offer] = field(default_factory=dict)


def unlearned_prediction(project_id: int, task_id: int, seed: int) -> Prediction:
    """The prediction while nothing is learned: no choice, a place in a fixed random order."""
    return Prediction(shuffled_score(f"{project_id}:{task_id}", seed), [])


def unlearned_scores(
    project_id: int, task_ids: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """(n,) the places of :func:`unlearned_prediction`."""
    keys = (f"{project_id}:{task_id}" for task_id in task_ids.tolist())
    return np.fromiter((shuffled_score(key, seed) for key in keys), np.float64, len(task_ids))


def missing_image_prediction() -> Prediction:
    """The prediction for a task whose image cannot be had: no choice, served last."""
    return Prediction(LAST_SCORE, [])


Embeddings = Mapping[str, tuple[Sequence[int] | NDArray[Any], NDArray[Any]]]
"""Data key → (task ids (n,), embeddings (n, width))."""


def predict_tasks(
    artifact: Artifact,
    controls: Sequence[Control],
    embeddings: Embeddings,
    strategy: str,
    withheld: Mapping[str, Mapping[int, str]] = MappingProxyType({}),
) -> dict[int, Prediction]:
    """Predictions of a version for tasks with embeddings.

    ``strategy`` names the uncertainty that they are scored by. ``withheld``: data key → task → why
    no choice is ticked for its image, so that people judge it for themselves.

    Returns:
        Task id → prediction with the task's own score, for every task with an embedding for at
        least one learned control. Where there are several controls, the least certain one decides
        the score.
    """
    found = say(artifact, controls, embeddings)
    task_ids, scores = own_scores(found, strategy)
    results: dict[int, list[dict[str, Any]]] = {task_id: [] for task_id in task_ids.tolist()}
    offers: dict[int, dict[str, Offer]] = {task_id: {} for task_id in task_ids.tolist()}
    for said in found:
        control, kept = said.control, said.classes
        chosen = chosen_from(said.head, kept) if control.multiple else None
        ticked = _ticked(said.probabilities, chosen)
        silent = withheld.get(control.data_key, {})
        for position, task_id in enumerate(said.task_ids.tolist()):
            picked = np.flatnonzero(ticked[position]).tolist()
            offer = Offer(silent.get(task_id, TICKED), tuple(kept[i] for i in picked))
            offers[task_id][control.name] = offer
            if offer.choices and offer.state == TICKED:
                score = float(said.probabilities[position][picked].min())
                results[task_id].append(_choice(task_id, control, offer.choices, score))
    return {
        task_id: Prediction(score, results[task_id], offers[task_id])
        for task_id, score in zip(task_ids.tolist(), scores.tolist(), strict=True)
    }


@dataclass(frozen=True, eq=False)
class Said:
    """(n, k) float32 what the head of a control says of the images of n tasks."""

    control: Control
    head: Head
    classes: list[str]
    task_ids: NDArray[np.int64]
    probabilities: NDArray[Any]


def say(artifact: Artifact, controls: Sequence[Control], embeddings: Embeddings) -> list[Said]:
    """What the heads of a version say, control by control; nothing of a control that has none, or
    whose classes are all gone."""
    found = []
    for control in controls:
        head = head_of(artifact, control)
        task_ids, vectors = embeddings.get(control.data_key, ((), np.zeros((0, 0))))
        if head is None or not len(task_ids):
            continue
        kept, probabilities = current_classes(head, control, vectors)
        if kept:
            ids = np.asarray(task_ids, dtype=np.int64)
            found.append(Said(control, head, kept, ids, probabilities))
    return found


def own_scores(
    said: Sequence[Said], strategy: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) tasks, ascending, and their (n,) own scores: the scores of :func:`predict_tasks`."""
    ids = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(s.task_ids for s in said)]))
    scores = np.full(len(ids), np.inf)
    for each in said:
        at = np.searchsorted(ids, each.task_ids)
        for start in range(0, len(at), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            unsure = uncertainty(strategy, each.probabilities[part], each.control.multiple)
            np.minimum.at(scores, at[part], queue_scores([unsure]))
    return ids, scores


def answered(artifact: Artifact, controls: Sequence[Control]) -> list[Control]:
    """The controls that a version says something about."""
    heads = ((control, head_of(artifact, control)) for control in controls)
    return [
        control
        for control, head in heads
        if head is not None and not set(head.classes).isdisjoint(control.classes)
    ]


def head_of(artifact: Artifact, control: Control) -> Head | None:
    """The head that answers a control as it is now; None where it was trained for the other kind,
    one choice or several."""
    head = artifact.heads.get(control.name)
    return head if head is not None and head.multiple == control.multiple else None


def chosen_from(head: Head | None, classes: Sequence[str]) -> NDArray[np.float64]:
    """(k,) the probability from which on each class of a multiple choice is ticked."""
    known = {}
    if head is not None and head.thresholds is not None:
        known = dict(zip(head.classes, head.thresholds.tolist(), strict=True))
    return np.array([known.get(name, NEUTRAL) for name in classes], dtype=np.float64)


def current_classes(
    head: Head, control: Control, vectors: NDArray[Any]
) -> tuple[list[str], NDArray[Any]]:
    """The head's classes that the config still has, and their probabilities."""
    kept = [i for i, name in enumerate(head.classes) if name in control.classes]
    # Bit by bit: in single precision a million embeddings take twice the memory.
    parts = [
        head.probabilities(vectors[start : start + AT_ONCE])[:, kept]
        for start in range(0, max(1, len(vectors)), AT_ONCE)
    ]
    probabilities = np.concatenate(parts)
    if not control.multiple and kept and len(kept) < len(head.classes):
        total = probabilities.sum(axis=1, keepdims=True)
        probabilities = np.where(total > 0, probabilities / np.maximum(total, 1e-12), 1 / len(kept))
    return [head.classes[i] for i in kept], probabilities


def _ticked(
    probabilities: NDArray[Any], thresholds: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """(n, k) which classes are chosen: the likeliest, or each from its threshold on."""
    if thresholds is not None:
        return np.asarray(probabilities >= thresholds)
    places = np.arange(probabilities.shape[1])
    return np.asarray(places == probabilities.argmax(axis=1)[:, None])


def _choice(task_id: int, control: Control, choices: Sequence[str], score: float) -> dict[str, Any]:
    return {
        "id": hashlib.sha256(f"{task_id}:{control.name}".encode()).hexdigest()[:10],
        "from_name": control.name,
        "to_name": control.to_name,
        "type": "choices",
        "score": round(score, 6),
        "value": {"choices": list(choices)},
    }
