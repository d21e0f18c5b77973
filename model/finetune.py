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
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model.augment import Augmentation, AugmentationName, augmentation
from model.backbones import Backbone
from model.checkpoints import load_checkpoint, save_checkpoint
from model.control_labels import ControlLabels, row_weights, validation_rows
from model.devices import choose_device
from model.errors import ArgumentError, TiebreakError
from model.finetune_options import FineTuneOptions
from model.learner import Learner, Objective, Question, Stepper, ask, probe, trainable_copy
from model.optimiser import (
    STATE_PREFIX,
    make_optimiser,
    optimiser_tensors,
    parameter_groups,
    rate_factor,
    restore_optimiser,
    set_rates,
)
from model.pictures import LoadImage, Pictures, batches
from model.validation import EpochReport, features_of, judge_features

PROGRESS_SECONDS = 0.5
LEAST_ROWS = 20
MIRRORED_ROWS = 30
MIRRORED_LOSS = 0.05
"""Mirrored images are seen when the probe is right about them at most this share less often."""


class Cancelled(TiebreakError):
    """A training was cancelled."""


class TrainingDiverged(TiebreakError):
    """The loss of a training stopped being a number."""


@dataclass(frozen=True)
class FineTuneProgress:
    """How far a fine-tune is.

    ``epoch`` counts from 1 and is 0 before the first; ``step`` of ``steps`` are those of this epoch
    or, before it, images. ``seconds`` since the call; ``eta_seconds`` to go at most, once it can be
    told.
    """

    phase: Literal["reading images", "fitting the probe", "training"]
    epoch: int
    epochs: int
    step: int
    steps: int
    seconds: float
    eta_seconds: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


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
) -> FineTuned:
    """Fine-tune ``backbone`` on n images, each with a label of at least one control.

    ``load_image``   row, 0 to n - 1 -> image; called from several threads and processes
    ``device``       ``cpu``, ``cuda`` …; by default a GPU where there is one
    ``workers``      processes that prepare images; by default from the machine
    ``checkpoint``   folder that holds the state after every epoch. The same call goes on from it,
                     to the result that it would have had; another call starts anew
    ``on_progress``  is told about twice a second
    ``cancelled``    asked before each step; when it says yes, :class:`Cancelled` is raised

    ``backbone`` stays as it is. On one machine the same arguments give the same weights, however
    many ``workers`` there are.

    ArgumentError when there are fewer than 20 rows or no control can be learned;
    :class:`TrainingDiverged` when the loss is no longer finite; OSError when the checkpoint cannot
    be written. What ``load_image`` raises is passed on.
    """
    n = _row_count(labels)
    target = choose_device(device)
    split = np.random.default_rng([options.seed, 1])
    trained = ~validation_rows(labels, options.validation_share, split)
    questions = ask(labels, trained, target, weighted=options.balance == "weights")
    if not questions:
        raise ArgumentError("labels has no control with labels of two classes to learn from.")
    tuning = _Tuning(
        learner=Learner(backbone, questions, target),
        questions=questions,
        labels=labels,
        trained=trained,
        pictures=Pictures(load_image, n, backbone.input_size),
        options=options,
        batch_size=options.batch_size or _batch_size(target, int(trained.sum())),
        workers=_workers(target) if workers is None else workers,
        checkpoint=checkpoint,
        digest=_digest(backbone, labels, options),
        on_progress=on_progress or (lambda _: None),
        cancelled=cancelled or (lambda: False),
    )
    return tuning.run()


class _Tuning:
    """One fine-tune under way."""

    def __init__(
        self,
        *,
        learner: Learner,
        questions: Sequence[Question],
        labels: Sequence[ControlLabels],
        trained: NDArray[np.bool_],
        pictures: Pictures,
        options: FineTuneOptions,
        batch_size: int,
        workers: int,
        checkpoint: Path | None,
        digest: str,
        on_progress: Callable[[FineTuneProgress], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.learner, self.questions, self.labels = learner, questions, labels
        self.trained, self.pictures, self.options = trained, pictures, options
        self.batch_size, self.workers = batch_size, workers
        self.checkpoint, self.digest = checkpoint, digest
        self.on_progress, self.cancelled = on_progress, cancelled
        self.rows = np.flatnonzero(trained)
        self.watched = np.flatnonzero(~trained)
        self.steps = -(-len(self.rows) // batch_size)
        self.optimiser = make_optimiser(
            options.optimiser,
            parameter_groups(
                learner.backbone,
                learner.heads,
                backbone_rate=options.backbone_rate,
                head_rate=options.head_rate,
                decay=options.weight_decay,
            ),
            options.momentum,
        )
        objective = Objective(questions, options.label_smoothing, options.mixup)
        self.stepper = Stepper(learner, objective, batch_size)
        self.reports: list[EpochReport] = []
        self.best: dict[str, torch.Tensor] = {}
        self.augmentation = Augmentation("none")
        self.began = self.told = time.monotonic()
        self.seconds_before = 0.0
        self.epochs_timed: list[float] = []

    def run(self) -> FineTuned:
        resumed = self._restore()
        self.pictures.read_all(lambda row: self._tell("reading images", 0, row, self.pictures.n))
        if not resumed:
            self._prepare()
            self._save()
        while not self._done():
            started = time.monotonic()
            with seeded(self.learner.device, (self.options.seed, 2, len(self.reports))):
                self._epoch(len(self.reports))
            self.epochs_timed.append(time.monotonic() - started)
            self._save()
        network = trainable_copy(self.learner.backbone.cpu())
        network.load_state_dict(self.best)
        return FineTuned(
            network=network.eval().requires_grad_(False),
            trained=self.trained,
            epochs=self.reports,
            best_epoch=self._best_epoch(),
            seconds=self._seconds(),
            augmentation=self.augmentation.name,
            batch_size=self.batch_size,
        )

    def _prepare(self) -> None:
        """The probe, how it does, and which augmentation suits the images."""
        everything = np.arange(self.pictures.n)
        self._tell("fitting the probe", 0, 0, self.pictures.n, always=True)
        with seeded(self.learner.device, (self.options.seed, 3)):
            features = self._features(everything)
            if self.options.probe_first:
                probe(self.learner, features, self.questions, self.trained, self.options.seed)
            loss, right = self._judge(features[self.watched])
            self.augmentation = self._augmentation(right)
        self.reports.append(EpochReport(0, None, loss, right))
        self._keep_best()

    def _features(self, rows: NDArray[np.int64], *, mirrored: bool = False) -> NDArray[np.float32]:
        found = []
        for start in range(0, len(rows), 256):
            self._stop_if_cancelled()
            part = rows[start : start + 256]
            found.append(features_of(self.learner, self.pictures, part, mirrored=mirrored))
            self._tell("fitting the probe", 0, start + len(part), len(rows))
        return np.concatenate(found)

    def _augmentation(self, right: float) -> Augmentation:
        name, strength = self.options.augmentation, self.options.augmentation_strength
        if name == "auto":
            name = "characters"
            if self.options.probe_first and len(self.watched) >= MIRRORED_ROWS:
                _, mirrored = self._judge(self._features(self.watched, mirrored=True))
                name = "photos" if mirrored >= right - MIRRORED_LOSS else name
        return augmentation(name, strength)

    def _epoch(self, epoch: int) -> None:
        generator = np.random.default_rng([self.options.seed, 4, epoch])
        order = self._order(generator)
        seen = batches(
            self.pictures,
            order,
            self.batch_size,
            transform=self.augmentation.transform(),
            seed=(self.options.seed, 5, epoch),
            workers=self.workers,
        )
        losses = []
        self.learner.train()
        total_steps = self.steps * self.options.epochs
        for step, (rows, pixels) in enumerate(seen):
            self._stop_if_cancelled()
            if len(rows) == 1 and len(order) > 1:
                continue  # batch normalisation has nothing to measure on one image
            losses.append(self.stepper.gradients(rows, pixels, generator))
            if not np.isfinite(losses[-1]):
                raise TrainingDiverged(
                    f"The loss of step {step + 1} in epoch {epoch} is {losses[-1]}.",
                    mend="Use a lower learning rate.",
                )
            done = (epoch - 1) * self.steps + step
            set_rates(self.optimiser, rate_factor(done, total_steps, self.options.warmup_share))
            self.optimiser.step()
            self._tell("training", epoch, step + 1, self.steps)
        loss, right = self._judge(features_of(self.learner, self.pictures, self.watched))
        self.reports.append(EpochReport(epoch, float(np.mean(losses)), loss, right))
        self._keep_best()
        self._tell("training", epoch, self.steps, self.steps, always=True)

    def _order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        if self.options.balance != "sampler":
            return generator.permutation(self.rows)
        weights = row_weights(self.labels, self.trained)[self.rows]
        return generator.choice(self.rows, size=len(self.rows), p=weights / weights.sum())

    def _judge(self, features: NDArray[np.float32]) -> tuple[float, float]:
        return judge_features(self.learner, self.questions, self.watched, features)

    def _keep_best(self) -> None:
        if self._best_epoch() == self.reports[-1].epoch:
            state = self.learner.backbone.state_dict()
            self.best = {key: value.detach().cpu().clone() for key, value in state.items()}

    def _best_epoch(self) -> int:
        # Where nothing is watched, the last word is the last epoch's.
        return min(self.reports, key=lambda report: (report.loss, -report.epoch)).epoch

    def _done(self) -> bool:
        epoch = self.reports[-1].epoch
        return epoch >= self.options.epochs or epoch - self._best_epoch() >= self.options.patience

    def _stop_if_cancelled(self) -> None:
        if self.cancelled():
            raise Cancelled("The fine-tune was cancelled.")

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _tell(
        self,
        phase: Literal["reading images", "fitting the probe", "training"],
        epoch: int,
        step: int,
        steps: int,
        *,
        always: bool = False,
    ) -> None:
        now = time.monotonic()
        if not always and now - self.told < PROGRESS_SECONDS:
            return
        self.told = now
        last = self.reports[-1] if self.reports else None
        self.on_progress(
            FineTuneProgress(
                phase=phase,
                epoch=epoch,
                epochs=self.options.epochs,
                step=step,
                steps=steps,
                seconds=self._seconds(),
                eta_seconds=self._eta(epoch, step, steps),
                validation_loss=last.loss if last else None,
                validation_accuracy=last.accuracy if last else None,
            )
        )

    def _eta(self, epoch: int, step: int, steps: int) -> float | None:
        if not self.epochs_timed:
            return None
        left = self.options.epochs - epoch + (1 - step / steps)
        return float(np.mean(self.epochs_timed)) * left

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        tensors = {f"learner.{key}": value for key, value in self.learner.state_dict().items()}
        tensors |= {f"best.{key}": value for key, value in self.best.items()}
        description = {
            "digest": self.digest,
            "reports": [asdict(report) for report in self.reports],
            "augmentation": self.augmentation.name,
            "at_once": self.stepper.at_once,
            "seconds": self._seconds(),
        }
        save_checkpoint(self.checkpoint, tensors | optimiser_tensors(self.optimiser), description)

    def _restore(self) -> bool:
        """Go on from the checkpoint of the same call; whether there was one."""
        found = load_checkpoint(self.checkpoint) if self.checkpoint else None
        if found is None or found[1].get("digest") != self.digest:
            return False
        tensors, description = found
        self.learner.load_state_dict(_part(tensors, "learner."))
        self.best = _part(tensors, "best.")
        restore_optimiser(self.optimiser, tensors)
        self.reports = [EpochReport(**report) for report in description["reports"]]
        self.augmentation = augmentation(
            description["augmentation"], self.options.augmentation_strength
        )
        self.stepper.at_once = description["at_once"]
        self.seconds_before = description["seconds"]
        return True


@contextmanager
def seeded(device: torch.device, seed: tuple[int, ...]) -> Iterator[None]:
    """torch's global generators start from ``seed`` within the block and are put back after it.

    On a GPU the kernels are those that add up in a fixed order.
    """
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    devices = [device] if device.type == "cuda" else []
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=True
    )
    with torch.random.fork_rng(devices=devices), flags:
        torch.manual_seed(number)
        yield


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    assert prefix != STATE_PREFIX
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


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
    """Processes that prepare images. A small CPU does that between the steps itself."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    spare = (cores or 1) - 1
    return min(12, spare) if device.type == "cuda" else spare // 4


def _digest(backbone: Backbone, labels: Sequence[ControlLabels], options: FineTuneOptions) -> str:
    """What a checkpoint belongs to."""
    found = hashlib.sha256(repr((backbone.identity, options)).encode())
    for part in labels:
        found.update(repr((part.name, part.classes, part.multiple)).encode())
        found.update(np.ascontiguousarray(part.targets[part.known]).tobytes())
        found.update(np.packbits(part.known).tobytes())
    return found.hexdigest()
