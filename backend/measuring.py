"""How good a version is, control by control, on labels it has not learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.dataset import LabelledImages
from backend.grading import class_probabilities
from backend.label_config import Control
from backend.predictions import chosen_from
from model.evaluation import evaluate
from model.folds import flag_folds
from model.head import FOLDS, HeadFit
from model.thresholds import cross_thresholds


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
    return {
        "held_out": _evaluated(control, said, part.targets[held], thresholds, seed, groups),
        "cross_validated": _evaluated(control, tested, targets, others, seed),
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
