"""A challenger against the version that serves, on labels that neither has learned from.

These are the held-out labels. While there are fewer than 30 of them, the labels join in that came
since the serving version was trained: it has not learned them, and for the challenger there are the
predictions of its cross-validation, each by a model that was fitted without that label. Labels that
the serving version was trained on say nothing about it and are never used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.dataset import LabelledImages
from backend.grading import class_probabilities, grade
from backend.id_ranges import ids_of
from backend.projects import newest_version
from backend.tables import Version, version_name
from backend.version_metrics import gate_of
from model.artifact import Artifact
from model.gate import (
    ENOUGH_HELD_OUT,
    Evidence,
    GateDecision,
    Graded,
    decide,
    keep_uncompared,
)
from model.head import Head

TRAINED_ON = "trained_on"
"""Key of the manifest: of each control the tasks whose labels a version learned."""
NOTHING = Graded(np.zeros(0, dtype=np.bool_), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Challenger:
    """A model that was just trained.

    ``backbone``     identity of the network whose embeddings the heads read
    ``heads``        by control
    ``out_of_fold``  by control, for the labels that are not held out, in their order: (n, k)
                     probabilities by a model fitted without the label, NaN in rows that have
                     none, such as those that a fine-tuned backbone was trained on; None, or no
                     entry, where there are no such probabilities
    """

    backbone: str
    heads: Mapping[str, Head]
    out_of_fold: Mapping[str, NDArray[np.float64] | None]


def judge(
    data: Mapping[str, Sequence[LabelledImages]],
    challenger: Challenger,
    champion: Artifact | None,
    margin: float,
    looks: int = 0,
) -> GateDecision:
    """The gate on the labels of all controls together.

    ``data`` holds the labelled images by the identity of the backbone whose embeddings they come
    with: those of the challenger's, and those of the champion's where it is another. An image that
    lacks either embedding is left out. ``looks`` is how often the held-out labels were looked at.

    A challenger that cannot be compared is kept, and the reason says so: there is no champion, the
    embeddings that it reads are gone, or the config asks for other things than it has learned.
    """
    own = [part for part in data[challenger.backbone] if part.control.name in challenger.heads]
    looks += any(part.held_out.any() for part in own)
    if champion is None:
        decision = _uncompared(own, challenger, "there is no version to compare it with", margin)
        return replace(decision, looks=looks)
    name = version_name(champion.version)
    theirs = {part.control.name: part for part in data.get(champion.backbone, ())}
    if not any(len(part.task_ids) for part in theirs.values()):
        why = (
            f"no features by {champion.backbone} are left, which {name} reads, "
            "so that the two cannot be compared"
        )
        return replace(_uncompared(own, challenger, why, margin), looks=looks)
    pairs = [
        _pair(part, theirs[part.control.name], challenger, champion)
        for part in own
        if part.control.name in theirs and _comparable(part, champion)
    ]
    if not pairs:
        why = f"{name} has learned none of what the labelling config asks for now"
        return replace(_uncompared(own, challenger, why, margin), looks=looks)
    return replace(_decide(pairs, margin), looks=looks)


def looks_so_far(session: Session, project_id: int) -> int:
    """How often the held-out labels of a project were looked at, to train or to compare."""
    newest = newest_version(session, project_id)
    if newest is not None and "gate" in newest.metrics:
        return int(newest.metrics["gate"].get("looks", 0))
    # Versions of before the looks were counted: each that had held-out labels looked once.
    rows = session.scalars(select(Version.metrics).where(Version.project_id == project_id))
    return sum(bool(gate_of(metrics).get("n")) for metrics in rows)


def count_look(session: Session, project_id: int) -> None:
    """Write down that somebody looked at the held-out labels without a training."""
    newest = newest_version(session, project_id)
    if newest is not None:
        looks = looks_so_far(session, project_id) + 1
        newest.metrics = {**newest.metrics, "gate": {**gate_of(newest.metrics), "looks": looks}}


@dataclass(frozen=True, eq=False)
class _Pair:
    """What both make of the same m labels, which of them are held out, and which of the others
    neither has learned."""

    task_ids: NDArray[np.int64]
    champion: Graded
    challenger: Graded
    held_out: NDArray[np.bool_]
    fresh: NDArray[np.bool_]


def _comparable(part: LabelledImages, champion: Artifact) -> bool:
    head = champion.heads.get(part.control.name)
    if head is None or head.multiple != part.control.multiple:
        return False
    return not set(head.classes).isdisjoint(part.control.classes)


def _pair(
    part: LabelledImages, theirs: LabelledImages, challenger: Challenger, champion: Artifact
) -> _Pair:
    name, control = part.control.name, part.control
    ids, mine, yours = np.intersect1d(part.task_ids, theirs.task_ids, return_indices=True)
    said = _unseen(part, challenger)[mine]
    known = np.asarray(np.isfinite(said).all(axis=1))
    held_out, targets = part.held_out[mine], part.targets[mine]
    rival = champion.heads[name]
    before = class_probabilities(rival, control, theirs.embeddings[yours])
    return _Pair(
        ids,
        grade(rival, control, before, targets),
        grade(challenger.heads[name], control, np.where(known[:, None], said, 0), targets),
        held_out,
        ~_learned(champion, name, ids) & known & ~held_out,
    )


def _learned(champion: Artifact, control: str, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tasks' labels the champion may have learned: any, where it has no record of them."""
    record = champion.manifest.get(TRAINED_ON)
    ranges = record.get(control) if isinstance(record, dict) else None
    if not isinstance(ranges, str):
        return np.ones(len(ids), dtype=np.bool_)
    return np.isin(ids, ids_of(ranges))


def _unseen(part: LabelledImages, challenger: Challenger) -> NDArray[np.float64]:
    """(n, k) what the challenger says of labels it has not seen; NaN in rows it cannot."""
    control = part.control
    said = np.full((len(part.task_ids), len(control.classes)), np.nan)
    held = part.embeddings[part.held_out]
    said[part.held_out] = class_probabilities(challenger.heads[control.name], control, held)
    out_of_fold = challenger.out_of_fold.get(control.name)
    if out_of_fold is not None:
        said[~part.held_out] = out_of_fold
    return said


def _decide(pairs: Sequence[_Pair], margin: float) -> GateDecision:
    held_out = sum(int(pair.held_out.sum()) for pair in pairs)
    cross_validated = held_out < ENOUGH_HELD_OUT and any(pair.fresh.any() for pair in pairs)
    rows = [pair.held_out | pair.fresh if cross_validated else pair.held_out for pair in pairs]
    picked = list(zip(pairs, rows, strict=True))
    return decide(
        _joined([_picked(pair.champion, chosen) for pair, chosen in picked]),
        _joined([_picked(pair.challenger, chosen) for pair, chosen in picked]),
        margin=margin,
        ids=np.concatenate([pair.task_ids[chosen] for pair, chosen in picked]),
        evidence=Evidence.CROSS_VALIDATED if cross_validated else Evidence.HELD_OUT,
    )


def _uncompared(
    own: Sequence[LabelledImages], challenger: Challenger, why: str, margin: float
) -> GateDecision:
    graded = []
    for part in own:
        head, held = challenger.heads[part.control.name], part.held_out
        said = class_probabilities(head, part.control, part.embeddings[held])
        graded.append(grade(head, part.control, said, part.targets[held]))
    return keep_uncompared(_joined(graded), why, margin)


def _picked(graded: Graded, rows: NDArray[np.bool_]) -> Graded:
    return Graded(graded.right[rows], graded.loss[rows])


def _joined(graded: Sequence[Graded]) -> Graded:
    parts = [NOTHING, *graded]
    return Graded(
        np.concatenate([part.right for part in parts]), np.concatenate([p.loss for p in parts])
    )
