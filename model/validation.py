"""How a network in training does on rows that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.calibrate import fit_temperature
from model.crossfit import calibrated
from model.learner import Learner, Question
from model.metrics import accuracy, exact_match, log_loss
from model.pictures import Pictures, batches
from model.world import ALONE, World

BATCH = 64


@dataclass(frozen=True)
class EpochReport:
    """One epoch. ``epoch`` 0 is the untouched network under its probe.

    ``training_loss``  mean loss of the steps, augmentation and all; None for epoch 0
    ``loss``           log loss of the watched rows at the temperature that suits them best, mean
                       over the controls: how sure a network is can be mended afterwards, how well
                       it tells classes apart cannot
    ``accuracy``       share of the watched rows that are right, mean over the controls
    """

    epoch: int
    training_loss: float | None
    loss: float
    accuracy: float


def features_of(
    learner: Learner,
    pictures: Pictures,
    rows: NDArray[np.int64],
    *,
    workers: int = 0,
    world: World = ALONE,
) -> NDArray[np.float32]:
    """(n, width) features of rows, in evaluation mode; each process computes its share."""
    none = np.zeros(len(rows), dtype=np.bool_)
    return features_both_ways(learner, pictures, rows, none, workers=workers, world=world)[0]


def features_both_ways(
    learner: Learner,
    pictures: Pictures,
    rows: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    *,
    workers: int = 0,
    world: World = ALONE,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same, and the features of those that the (n,) flags name when left and right are
    exchanged, zeros for the others: from one look at each picture."""
    learner.eval()
    share = world.share(len(rows))
    own, flags = rows[share], mirrored[share]
    found = np.zeros((2, len(own), learner.width), dtype=np.float32)
    done = 0
    with torch.inference_mode():
        for part, pixels in batches(pictures, own, BATCH, device=learner.device, workers=workers):
            at = slice(done, done + len(part))
            found[0, at] = learner.features(pixels).cpu().numpy()
            also = flags[at]
            if also.any():
                flipped = torch.flip(pixels[torch.from_numpy(also)], dims=[3])
                found[1, at][also] = learner.features(flipped).cpu().numpy()
            done = at.stop
    one, other = (world.gather(part, len(rows), learner.device) for part in found)
    return one, other


def judge_features(
    learner: Learner,
    questions: Sequence[Question],
    rows: NDArray[np.int64],
    features: NDArray[np.float32],
) -> tuple[float, float]:
    """Calibrated log loss and accuracy of the layers on top, on the (n, width) features of rows."""
    losses, accuracies = [], []
    for head, question in zip(learner.heads, questions, strict=True):
        known = question.known[rows].cpu().numpy() > 0
        if not known.any():
            continue
        with torch.inference_mode():
            logits = head(torch.from_numpy(features[known]).to(learner.device)).cpu().numpy()
        flags = question.wanted[rows].cpu().numpy()[known] > 0
        loss, right = _judge(logits, flags, question.multiple)
        losses.append(loss)
        accuracies.append(right)
    if not losses:
        return np.inf, 0.0
    return float(np.mean(losses)), float(np.mean(accuracies))


def _judge(logits: NDArray[Any], flags: NDArray[np.bool_], multiple: bool) -> tuple[float, float]:
    truth: NDArray[Any] = flags if multiple else flags.argmax(axis=1)
    temperature = fit_temperature(logits, truth, multiple)
    probabilities = calibrated(logits, temperature, multiple)
    right = exact_match if multiple else accuracy
    return log_loss(probabilities, truth), right(probabilities, truth)
