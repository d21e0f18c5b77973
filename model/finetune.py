"""Images and labels in, a better backbone out, in minutes: linear probing, then fine-tuning.

A linear layer is fitted on the untouched network first; then the whole network learns, the backbone
at a lower rate (LP-FT: Kumar, Raghunathan, Jones, Ma and Liang, *Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution*, 2022). A share of the training rows is
only watched: the weights that do best on it are kept, which may be the untouched ones. What comes
out is a backbone; heads are fitted on its embeddings as on any other's, and take their penalty and
temperature from rows that it was not trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.augment import AugmentationName
from model.backbones import Backbone
from model.control_labels import ControlLabels, validation_rows
from model.devices import choose_device
from model.errors import ArgumentError
from model.finetune_options import FineTuneOptions
from model.finetune_progress import FineTuneProgress, Teller
from model.learner import Learner, ask, trainable_copy
from model.parallel import cores
from model.pictures import LoadImage, Pictures
from model.tuning import Cancelled, Material, TrainingDiverged, Tuning
from model.validation import EpochReport
from model.world import current_world

__all__ = [
    "Cancelled",
    "ControlLabels",
    "EpochReport",
    "FineTuneOptions",
    "FineTuneProgress",
    "FineTuned",
    "TrainingDiverged",
    "finetune",
]

LEAST_ROWS = 20
FORMAT = 2
"""Of a checkpoint: how chance is drawn and what rounds where, so that one goes on as it began."""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came of a fine-tune.

    ``network``     the tuned backbone in evaluation mode, float32, on the CPU
    ``trained``     (n,) bool, the rows whose gradients shaped it; the others were only watched
    ``epochs``      how each epoch did on the watched rows, the untouched network first
    ``best_epoch``  the one whose weights were kept; 0: nothing did better than the probe
    ``seconds``     spent on it, interruptions left out
    """

    network: torch.nn.Module
    trained: NDArray[np.bool_]
    epochs: list[EpochReport]
    best_epoch: int
    seconds: float
    augmentation: AugmentationName
    batch_size: int


def finetune(
    backbone: Backbone,
    load_image: LoadImage,
    labels: Sequence[ControlLabels],
    options: FineTuneOptions,
    *,
    device: str | None = None,
    workers: int | None = None,
    checkpoint: Path | None = None,
    on_progress: Callable[[FineTuneProgress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    on_saved: Callable[[Path], None] | None = None,
) -> FineTuned:
    """Fine-tune ``backbone`` on n images, each with a label of at least one control.

    ``load_image``   row, 0 to n - 1 -> image; called from several threads
    ``device``       ``cpu``, ``cuda`` …; by default a GPU where there is one
    ``workers``      threads that read images ahead; by default from the machine
    ``checkpoint``   folder that holds the state after every epoch. The same call goes on from it,
                     to the result that it would have had; another call starts anew
    ``on_progress``  is told about twice a second
    ``cancelled``    asked before each step; when it says yes, :class:`Cancelled` is raised

    ``on_saved``     is told the folder of ``checkpoint`` whenever it holds a new state

    In a process group (:mod:`model.world`) each process makes the same call; they share the work
    of every batch, and each returns the same network. The first one alone writes and tells.
    Batch normalisations that learn (``frozen_statistics=False``) measure over all processes on
    GPUs, and over a process's own share on CPUs.

    ``backbone`` stays as it is. On one machine the same arguments give the same weights, however
    many ``workers`` there are.

    ArgumentError when there are fewer than 20 rows or no control can be learned;
    :class:`TrainingDiverged` when the loss is no longer finite; :class:`StorageError` when the
    checkpoint cannot be written. What ``load_image`` raises is passed on.
    """
    n = _row_count(labels)
    target, world = choose_device(device), current_world()
    split = np.random.default_rng([options.seed, 1])
    trained = ~validation_rows(labels, options.validation_share, split)
    questions = ask(labels, trained, target, weighted=options.balance == "weights")
    if not questions:
        raise ArgumentError("labels has no control with labels of two classes to learn from.")
    pictures = Pictures(load_image, n, backbone.input_size)
    batch_size = options.batch_size or _batch_size(target, int(trained.sum()))
    tuning = Tuning(
        Learner(backbone, questions, target, frozen_statistics=options.frozen_statistics),
        Material(pictures, labels, questions, trained),
        options,
        batch_size=batch_size,
        workers=_workers(target) if workers is None else workers,
        teller=Teller((world.leads and on_progress) or (lambda _: None), options.epochs),
        cancelled=cancelled or (lambda: False),
        world=world,
    )
    tuning.run(checkpoint, _digest(backbone, labels, options), on_saved or (lambda _: None))
    network = trainable_copy(backbone.network).cpu()
    network.load_state_dict(tuning.best)
    return FineTuned(
        network=network.eval().requires_grad_(False),
        trained=trained,
        epochs=tuning.reports,
        best_epoch=tuning.best_epoch,
        seconds=tuning.teller.seconds,
        augmentation=tuning.augmentation.name,
        batch_size=batch_size,
    )


def _row_count(labels: Sequence[ControlLabels]) -> int:
    if not labels:
        raise ArgumentError("labels is empty; at least one control is needed.")
    counts = {part.known.size for part in labels}
    if len(counts) > 1:
        raise ArgumentError(
            f"labels are about {sorted(counts)} images; all must be about the same."
        )
    n = counts.pop()
    if n < LEAST_ROWS:
        raise ArgumentError(f"labels is about {n} images; at least {LEAST_ROWS} are needed.")
    return n


def _batch_size(device: torch.device, rows: int) -> int:
    """Large enough to be fast, small enough for a dozen steps in an epoch."""
    most = 64 if device.type == "cpu" else 128
    return min(most, max(8, rows // 12))


def _workers(device: torch.device) -> int:
    """Threads that read images ahead. On a CPU the network wants the cores itself."""
    return min(12, cores()) if device.type == "cuda" else max(1, cores() // 4)


def _digest(backbone: Backbone, labels: Sequence[ControlLabels], options: FineTuneOptions) -> str:
    """What a checkpoint belongs to."""
    found = hashlib.sha256(repr((FORMAT, backbone.identity, options)).encode())
    for part in labels:
        found.update(repr((part.name, part.classes, part.multiple)).encode())
        found.update(np.ascontiguousarray(part.targets[part.known]).tobytes())
        found.update(np.packbits(part.known).tobytes())
    return found.hexdigest()
