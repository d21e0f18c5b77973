"""How good a version is, control by control, on labels it has not learned from.

The one number for it is the accuracy on the audit labels. Near-duplicates are in the audit set
together, so several of a group tell less than as many other labels, and its interval says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.dataset import LabelledImages
from backend.grading import class_probabilities
from backend.label_config import Control
from backend.predictions import chosen_from
from backend.version_metrics import share_name
from model.audit import MINIMUM, AuditEstimate, audit_accuracy
from model.evaluation import evaluate
from model.folds import flag_folds
from model.head import FOLDS, HeadFit
from model.thresholds import cross_thresholds


def measure_all(
    parts: Sequence[LabelledImages], fits: Mapping[str, HeadFit], seed: int
) -> dict[str, Any]:
    """What a version's row keeps of how good it is: :func:`measure` and :func:`audit_point` of
    each control."""
    found = [(part.control.name, part, fits[part.control.name]) for part in parts]
    return {
        "measures": {name: measure(part, fit, seed) for name, part, fit in found},
        "audit": {name: audit_point(part, fit) for name, part, fit in found},
    }


def measure(part: LabelledImages, fit: HeadFit, seed: int) -> dict[str, Any]:
    """:func:`model.evaluation.evaluate` of a fitted head on two samples of its control's labels.

    ``held_out``: by the head itself, on images it never saw; near-duplicates tell less than as many
    others. ``cross_validated``: of every other
    label, by a model fitted without it, and said from thresholds that other folds chose; the
    temperature was fitted on these very predictions, so that their calibration error flatters a
    little.
    """
    held = part.held_out
    said = class_probabilities(fit.head, part.control, part.embeddings[held])
    k = len(part.control.classes)
    tested, targets = np.zeros((0, k)), part.targets[~held]
    if fit.out_of_fold is None:
        targets = targets[:0]
    else:
        known = np.isfinite(fit.out_of_fold).all(axis=1)
        tested, targets = fit.out_of_fold[known], targets[known]
    control = part.control
    thresholds = chosen_from(fit.head, control.classes) if control.multiple else None
    groups = np.unique(part.leaders[held], return_inverse=True)[1]
    others = _of_other_folds(tested, targets, seed) if control.multiple else None
    audited = _evaluated(control, said, part.targets[held], thresholds, seed, groups)
    audited[share_name(control.multiple)] = _number(audit_estimate(part, fit))
    return {
        "held_out": audited,
        "cross_validated": _evaluated(control, tested, targets, others, seed),
    }


def audit_estimate(part: LabelledImages, fit: HeadFit) -> AuditEstimate:
    """The share of right answers on the audit labels, by :func:`model.audit.audit_accuracy`."""
    held = part.rows(part.held_out)
    said = class_probabilities(fit.head, part.control, held.embeddings)
    if part.control.multiple:
        picked = said >= chosen_from(fit.head, part.control.classes)
        right = (picked == held.targets).all(axis=1)
    else:
        right = said.argmax(axis=1) == held.targets
    return audit_accuracy(right, np.unique(held.leaders, return_inverse=True)[1])


def audit_point(part: LabelledImages, fit: HeadFit) -> dict[str, int]:
    """What the learning curve is made of: ``labels`` learned from, and ``right`` answers on
    ``audited`` independent labels; ``groups`` is how many audit images have one, near-duplicates
    counted once."""
    found = audit_estimate(part, fit)
    audited = int(found.effective)
    return {
        "labels": int((~part.held_out).sum()),
        "right": round((found.value or 0.0) * audited),
        "audited": audited if found.value is not None else 0,
        "groups": found.groups,
    }


def _number(found: AuditEstimate) -> dict[str, Any]:
    """An estimate in the form of :func:`model.evaluation.evaluate`."""
    number = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
    if found.value is not None:
        return number
    alike = "" if found.groups == found.n else ", near-duplicates counted once"
    return number | {
        "reason": f"cannot tell yet: {int(found.effective)} of {MINIMUM} labels{alike}"
    }


def _of_other_folds(
    probabilities: NDArray[np.float64], targets: NDArray[np.bool_], seed: int
) -> NDArray[np.float64] | None:
    """(n, k) thresholds, each chosen by rows of other folds; None where rows are too few."""
    folds = flag_folds(targets, FOLDS, np.random.default_rng(seed)) if len(targets) else None
    return None if folds is None else cross_thresholds(probabilities, targets, folds)


def _evaluated(
    control: Control,
    probabilities: NDArray[np.float64],
    targets: NDArray[Any],
    thresholds: NDArray[np.float64] | None,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    return evaluate(
        probabilities,
        targets,
        control.classes,
        control.multiple,
        seed,
        thresholds=thresholds,
        groups=groups,
    )
