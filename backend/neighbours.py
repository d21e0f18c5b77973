"""The labelled images of a project that a network finds most alike to another image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.groups import known_images
from backend.label_config import Control
from backend.tables import Label, TaskImage
from backend.task_rows import AGREED
from model.head import power_normalise


@dataclass(frozen=True)
class Neighbour:
    """A labelled image: ``similarity`` is the cosine of the embeddings as heads read them, 1 for
    the same image."""

    task: int
    digest: str
    choices: list[str]
    similarity: float


def nearest_labelled(
    session: Session,
    project_id: int,
    control: Control,
    backbone: str,
    embedding: NDArray[Any],
    count: int,
) -> list[Neighbour]:
    """The ``count`` images nearest to a (d,) embedding by ``backbone`` among those that people
    agree on, the nearest first; of equal ones the lowest task. Each image stands once."""
    labels = select(Label.task_id, Label.choices).where(
        Label.project_id == project_id, Label.control == control.name, Label.status == AGREED
    )
    choices = {task_id: list(chosen) for task_id, chosen in session.execute(labels)}
    labelled = TaskImage.task_id.in_(labels.with_only_columns(Label.task_id))
    key = control.data_key
    known = known_images(session, project_id, key, backbone, labelled, with_digests=True)
    if not len(known.task_ids):
        return []
    similar = power_normalise(known.embeddings) @ power_normalise(embedding[None])[0]
    found: dict[str, Neighbour] = {}
    for row in np.argsort(-similar, kind="stable"):
        if len(found) == count:
            break
        task, digest = int(known.task_ids[row]), known.digests[row].decode()
        said = round(float(similar[row]), 6)
        found.setdefault(digest, Neighbour(task, digest, choices[task], said))
    return list(found.values())
