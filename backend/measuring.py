"""How good a version is, control by control, on labels it has not learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.dataset import LabelledImages
from backend.grading import class_probabilities
from backend.predictions import chosen_from
from model.evaluation import evaluate
from model.head import Head, HeadFit


def measure(part: LabelledImages, fit: HeadFit, seed: int) -> dict[str, Any]:
    """:func:`model.evaluation.evaluate` of a fitted head on two samples of its control's labels.

    ``held_out``: by the head itself, on images it never saw. ``cross_validated``: of every other
    label, by a model fitted without it; the temperature was fitted on these very predictions, so
    that their calibration error flatters a little.
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
    return {
        "held_out": _evaluated(part, fit.head, said, part.targets[held], seed),
        "cross_validated": _evaluated(part, fit.head, tested, targets, seed),
    }


def _evaluated(
    part: LabelledImages,
    head: Head,
    probabilities: NDArray[np.float64],
    targets: NDArray[Any],
    seed: int,
) -> dict[str, Any]:
    control = part.control
    thresholds = chosen_from(head, control.classes) if control.multiple else None
    return evaluate(
        probabilities, targets, control.classes, control.multiple, seed, thresholds=thresholds
    )
