"""A project's labels that are probably wrong: what is looked at, and what is kept of it.

Kept are the worst ones, as they were when they were checked. Read are those of them whose labels
are still the same: what somebody has put right leaves the list at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from backend.dataset import LabelledImages, labelled_images
from backend.grading import class_probabilities
from backend.groups import KnownImages, known_images
from backend.label_config import Control
from backend.predictions import chosen_from
from backend.sync import controls_of
from backend.tables import Label, Project, QualityCheck, TaskImage, Vote
from model.head import HeadFit, fit_head
from model.label_errors import PEOPLE, SuspiciousLabel, suspicious_labels

MOST = 1000
FEWEST_LABELS = 50
"""With fewer of a control, a model knows too little to doubt what people say."""
TIED = "tied"
TIE = 0.5
"""A tie is doubted as much as half of the people do."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What is looked at of one control.

    ``dissent`` of each label the share of its annotators who said something else; ``tied`` the
    images on which people tie, and ``between`` the choices that do.
    """

    part: LabelledImages
    dissent: NDArray[np.float64]
    tied: KnownImages
    between: list[list[str]]


def looked_at(
    session: Session, project: Project, backbone: str, audit_share: float
) -> list[Looked]:
    """The labels of every control, with the embeddings of the original ``backbone``: whatever it is
    asked about, it has not been tuned on."""
    votes = _votes(session, project.id)
    found = []
    for control in controls_of(project):
        part = labelled_images(session, project, control, backbone, audit_share)
        between = _tied(session, project.id, control.name)
        on_these = exists().where(
            Label.project_id == project.id,
            Label.task_id == TaskImage.task_id,
            Label.control == control.name,
            Label.status == TIED,
        )
        tied = known_images(session, project.id, control.data_key, backbone, on_these)
        choices = [between[int(task)] for task in tied.task_ids]
        found.append(Looked(part, _dissent(part, votes), tied, choices))
    return found


def check_labels(looked: Sequence[Looked], seed: int) -> list[dict[str, Any]]:
    """The suspicious labels of all controls as they are kept, the worst first."""
    found = [entry for each in looked for entry in _check(each, seed)]
    return sorted(found, key=lambda entry: (-entry["doubt"], entry["task"]))[:MOST]


def suspicious_json(session: Session, project_id: int) -> dict[str, Any]:
    """``checked_at`` and how many ``labels`` were checked then, and the list as it stands now."""
    check = session.get(QualityCheck, project_id)
    if check is None:
        return {"checked_at": None, "labels": 0, "suspicious": []}
    rows = session.execute(
        select(Label.task_id, Label.control, Label.choices).where(Label.project_id == project_id)
    )
    now = {(row.task_id, row.control): row.choices for row in rows}
    standing = [e for e in check.suspicious if now.get((e["task"], e["control"])) == e["given"]]
    return {"checked_at": check.checked_at, "labels": check.labels, "suspicious": standing}


def _check(looked: Looked, seed: int) -> list[dict[str, Any]]:
    part, control = looked.part, looked.part.control
    enough = part.enough and len(part.task_ids) >= FEWEST_LABELS
    fit = _fit(part, seed) if enough else None
    head = fit.head if fit else None
    found = suspicious_labels(
        _unseen(part, fit),
        part.targets,
        multiple=control.multiple,
        dissent=looked.dissent,
        groups=np.unique(part.leaders, return_inverse=True)[1].astype(np.int64),
        thresholds=chosen_from(head, control.classes) if control.multiple else None,
    )
    entries = [_entry(part, label) for label in found]
    return entries + _ties(looked, fit)


def _fit(part: LabelledImages, seed: int) -> HeadFit:
    """A head on what is not in the audit set. Near-duplicates are tested together: else a wrong
    label on one of them would vouch for the other."""
    learned = part.rows(~part.held_out)
    return fit_head(
        learned.embeddings,
        learned.targets,
        classes=part.control.classes,
        multiple=part.control.multiple,
        seed=seed,
        groups=np.unique(learned.leaders, return_inverse=True)[1].astype(np.int64),
    )


def _unseen(part: LabelledImages, fit: HeadFit | None) -> NDArray[np.float64]:
    """(n, k) probabilities of each image by a model that has not seen its label; NaN where there
    is none. No audit label was seen."""
    said = np.full((len(part.task_ids), len(part.control.classes)), np.nan)
    if fit is not None:
        held = part.held_out
        said[held] = class_probabilities(fit.head, part.control, part.embeddings[held])
        if fit.out_of_fold is not None:
            said[~held] = fit.out_of_fold
    return said


def _entry(part: LabelledImages, found: SuspiciousLabel) -> dict[str, Any]:
    control, target = part.control, part.targets[found.position]
    given = np.flatnonzero(target) if control.multiple else [target]
    return {
        "task": int(part.task_ids[found.position]),
        "control": control.name,
        "given": [control.classes[int(i)] for i in given],
        "likely": [control.classes[i] for i in found.likely],
        "probability": found.probability,
        "doubt": found.doubt,
        "reasons": list(found.reasons),
    }


def _ties(looked: Looked, fit: HeadFit | None) -> list[dict[str, Any]]:
    """What people tie on is never learned, so that the head may say what it is."""
    control, tied = looked.part.control, looked.tied
    said = None if fit is None else class_probabilities(fit.head, control, tied.embeddings)
    entries = []
    for row, (task, given) in enumerate(zip(tied.task_ids.tolist(), looked.between, strict=True)):
        likely, probability = (given, None) if said is None else _likeliest(control, said[row])
        entries.append(
            {
                "task": task,
                "control": control.name,
                "given": given,
                "likely": likely,
                "probability": probability,
                "doubt": TIE,
                "reasons": [PEOPLE],
            }
        )
    return entries


def _likeliest(control: Control, said: NDArray[np.float64]) -> tuple[list[str], float]:
    """The likeliest class, alone also where several may be ticked."""
    best = int(said.argmax())
    return [control.classes[best]], float(said[best])


def _votes(session: Session, project_id: int) -> dict[int, list[Mapping[str, list[str]]]]:
    """Task → what each of its annotators said, control by control."""
    found: dict[int, list[Mapping[str, list[str]]]] = {}
    query = select(Vote.task_id, Vote.choices).where(Vote.project_id == project_id)
    for task_id, choices in session.execute(query):
        found.setdefault(task_id, []).append(choices)
    return found


def _dissent(
    part: LabelledImages, votes: Mapping[int, list[Mapping[str, list[str]]]]
) -> NDArray[np.float64]:
    """(n,) share of those who said something about the control and not what was agreed on."""
    control = part.control
    shares = np.zeros(len(part.task_ids))
    for row, task in enumerate(part.task_ids.tolist()):
        target = part.targets[row]
        given = np.flatnonzero(target) if control.multiple else [target]
        agreed = {control.classes[int(i)] for i in given}
        said = [vote[control.name] for vote in votes.get(task, []) if control.name in vote]
        if said:
            shares[row] = sum(set(each) != agreed for each in said) / len(said)
    return shares


def _tied(session: Session, project_id: int, control: str) -> dict[int, list[str]]:
    rows = session.execute(
        select(Label.task_id, Label.choices).where(
            Label.project_id == project_id, Label.control == control, Label.status == TIED
        )
    )
    return {row.task_id: list(row.choices) for row in rows}
