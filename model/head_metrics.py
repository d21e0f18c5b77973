"""How a head did on labels that it had not seen, for its report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.calibrate import expected_calibration_error
from model.crossfit import calibrated
from model.metrics import accuracy, exact_match, log_loss
from model.thresholds import cross_thresholds, f1_each

Array = NDArray[np.float64]
Metrics = dict[str, float | None]

MEASURES = ("accuracy", "log_loss", "ece_before", "ece_after")
FLAG_MEASURES = ("micro_f1", "macro_f1")


def unmeasured(targets: NDArray[Any], penalty: float, trust: float) -> Metrics:
    """The metrics of a head of which nothing could be tested."""
    multiple = targets.ndim == 2
    present = targets.any(axis=0).sum() if multiple else np.unique(targets).size
    return {
        "n": float(len(targets)),
        "classes_present": float(present),
        "tested": 0.0,
        "penalty": penalty,
        "trust": trust,
        **dict.fromkeys(MEASURES + (FLAG_MEASURES if multiple else ())),
    }


def measure(
    logits: Array, probabilities: Array, targets: NDArray[Any], folds: NDArray[np.int64]
) -> Metrics:
    """Measure n tested rows: (n, k) logits, as probabilities, what is true, and (n,) folds.

    ``targets`` are (n,) class positions, or (n, k) flags. A class of several is said from the
    threshold on that the rows of other folds choose, so that no row has chosen its own.
    """
    multiple = targets.ndim == 2
    found: Metrics = {
        "tested": float(len(targets)),
        "log_loss": log_loss(probabilities, targets),
        "ece_before": expected_calibration_error(calibrated(logits, np.ones(1), multiple), targets),
        "ece_after": expected_calibration_error(probabilities, targets),
    }
    if not multiple:
        return found | {"accuracy": accuracy(probabilities, targets)}
    thresholds = cross_thresholds(probabilities, targets, folds)
    said = probabilities >= thresholds
    labelled = targets.any(axis=0)
    return found | {
        "accuracy": exact_match(probabilities, targets, thresholds),
        "micro_f1": _known(f1_each(said.reshape(-1, 1), targets.reshape(-1, 1))),
        "macro_f1": _known(f1_each(said[:, labelled], targets[:, labelled])),
    }


def _known(each: Array) -> float | None:
    """The mean of (k,) measures, None where there is nothing to measure."""
    return float(each.mean()) if each.size and np.isfinite(each).all() else None
