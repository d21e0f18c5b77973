"""What a head makes of labelled images of a control, whatever classes it was trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.label_config import Control
from backend.predictions import chosen_from
from model.gate import Graded
from model.head import Head

SMALLEST_PROBABILITY = 1e-6


def class_probabilities(
    head: Head, control: Control, embeddings: NDArray[Any]
) -> NDArray[np.float64]:
    """(n, d) embeddings → (n, k) probabilities of the control's classes, as they are now.

    A class that the head does not know has probability 0.
    """
    probabilities = np.zeros((len(embeddings), len(control.classes)))
    if not len(embeddings):
        return probabilities
    found = head.probabilities(embeddings)
    for position, name in enumerate(control.classes):
        if name in head.classes:
            probabilities[:, position] = found[:, head.classes.index(name)]
    return probabilities


def grade(
    head: Head, control: Control, probabilities: NDArray[Any], targets: NDArray[Any]
) -> Graded:
    """Whether each row is right, and its log loss, the mean over the classes of a multiple one.

    (n, k) probabilities of the control's classes; the head gives the thresholds. A row without any
    probability is never right.
    """
    safe = np.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if control.multiple:
        said = probabilities >= chosen_from(head, control.classes)
        losses = -np.log(np.where(targets, safe, 1 - safe)).mean(axis=1)
        return Graded((said == targets).all(axis=1), losses)
    said = probabilities.argmax(axis=1)
    right = (said == targets) & (probabilities.max(axis=1, initial=0) > 0)
    return Graded(right, -np.log(safe[np.arange(len(targets)), targets]))
