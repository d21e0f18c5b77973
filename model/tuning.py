"""The epochs of a fine-tune, and its state on disk between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.augment import Augmentation, augmentation, draw_chances
from model.chance import seeded
from model.checkpoints import load_checkpoint, save_checkpoint
from model.control_labels import ControlLabels, row_weights
from model.errors import TiebreakError
from model.finetune_options import FineTuneOptions
from model.finetune_progress import Phase, Teller
from model.learner import Learner, Objective, Question, probe
from model.optimiser import (
    make_optimiser,
    optimiser_tensors,
    parameter_groups,
    rate_factor,
    restore_optimiser,
    set_rates,
)
from model.pictures import Pictures, batches
from model.stepper import Stepper
from model.validation import EpochReport, features_both_ways, features_of, judge_features
from model.world import ALONE, World

FEATURE_ROWS = 256
MIRRORED_ROWS = 30
MIRRORED_LOSS = 0.05
"""Mirrored images are shown when the probe is right about them at most this share less often."""


class Cancelled(TiebreakError):
    """A training was cancelled."""


class TrainingDiverged(TiebreakError):
    """The loss of a training stopped being a number."""


@dataclass(frozen=True, eq=False)
class Material:
    """What is learned from: n pictures, their labels, and the (n,) rows to learn."""

    pictures: Pictures
    labels: Sequence[ControlLabels]
    questions: Sequence[Question]
    trained: NDArray[np.bool_]


class Tuning:
    """One fine-tune under way: its network, its optimiser and what it has reached.

    ``best`` is the state dict of the backbone after ``best_epoch``, on the CPU.
    """

    def __init__(
        self,
        learner: Learner,
        material: Material,
        options: FineTuneOptions,
        *,
        batch_size: int,
        workers: int,
        teller: Teller,
        cancelled: Callable[[], bool],
        world: World = ALONE,
    ) -> None:
        self.learner, self.material, self.options = learner, material, options
        self.batch_size, self.workers, self.world = batch_size, workers, world
        self.teller, self._cancelled = teller, cancelled
        self._rows = np.flatnonzero(material.trained)
        self._watched = np.flatnonzero(~material.trained)
        self._steps = -(-len(self._rows) // batch_size)
        groups = parameter_groups(
            learner.backbone,
            learner.heads,
            backbone_rate=options.backbone_rate,
            head_rate=options.head_rate,
            decay=options.weight_decay,
        )
        self._optimiser = make_optimiser(options.optimiser, groups, options.momentum)
        objective = Objective(material.questions, options.label_smoothing, options.mixup)
        self._stepper = Stepper(learner, objective, batch_size, world)
        self.reports: list[EpochReport] = []
        self.best: dict[str, torch.Tensor] = {}
        self.augmentation = Augmentation("none")

    @property
    def best_epoch(self) -> int:
        """The epoch that did best on the watched rows; of equal ones the last."""
        return min(self.reports, key=lambda report: (report.loss, -report.epoch)).epoch

    def run(self, checkpoint: Path | None, digest: str, on_saved: Callable[[Path], None]) -> None:
        """Every epoch that is still to do. ``digest`` tells whose a checkpoint is."""
        resumed = checkpoint is not None and self._restore(checkpoint, digest)
        pictures = self.material.pictures
        pictures.read_all(lambda row: self._at("reading images", row, pictures.n))
        if not resumed:
            self._prepare()
        self._stepper.begin(moving_statistics=not self.options.frozen_statistics)
        # What is dropped at random differs between the processes, which see different images.
        own = (self.world.rank,) if self.world.rank else ()
        while not self._done():
            if checkpoint is not None and self.world.leads:
                self._save(checkpoint, digest)
                on_saved(checkpoint)
            started, epoch = time.monotonic(), len(self.reports)
            with seeded(self.learner.device, (self.options.seed, 2, epoch, *own)):
                report = self._epoch(epoch)
            self._take(report, time.monotonic() - started)
            self.teller.tell("training", epoch, self._steps, self._steps, now=True)

    def _at(self, phase: Phase, done: int, n: int) -> None:
        self._stop_if_cancelled()
        self.teller.tell(phase, 0, done, n)

    def _prepare(self) -> None:
        """The probe, how it does, and which augmentation suits the images."""
        with seeded(self.learner.device, (self.options.seed, 3)):
            features, mirrored = self._features()
            if self.options.probe_first:
                questions, trained = self.material.questions, self.material.trained
                probe(self.learner, features, questions, trained, self.options.seed)
            loss, right = self._judge(features[self._watched])
            self.augmentation = self._suited_augmentation(right, mirrored[self._watched])
        self._take(EpochReport(0, None, loss, right))

    @property
    def _asks_mirrors(self) -> bool:
        """Whether images are mirrored is up to the watched ones."""
        options = self.options
        enough = len(self._watched) >= MIRRORED_ROWS
        return options.augmentation == "auto" and options.probe_first and enough

    def _features(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, width) of all pictures, and of the watched ones mirrored where that is asked for."""
        n = self.material.pictures.n
        mirrored = ~self.material.trained & self._asks_mirrors
        found = []
        for start in range(0, n, FEATURE_ROWS):
            self._at("fitting the probe", start, n)
            rows = np.arange(start, min(start + FEATURE_ROWS, n))
            found.append(
                features_both_ways(
                    self.learner,
                    self.material.pictures,
                    rows,
                    mirrored[rows],
                    workers=self.workers,
                    world=self.world,
                )
            )
        one, other = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return one, other

    def _suited_augmentation(self, right: float, mirrored: NDArray[np.float32]) -> Augmentation:
        name = self.options.augmentation
        if name == "auto":
            name = "characters"
            if self._asks_mirrors and self._judge(mirrored)[1] >= right - MIRRORED_LOSS:
                name = "photos"
        return augmentation(name, self.options.augmentation_strength)

    def _epoch(self, epoch: int) -> EpochReport:
        losses = self.learn(epoch)
        if not self.options.frozen_statistics:
            self.world.align(self.learner)
        features = features_of(
            self.learner,
            self.material.pictures,
            self._watched,
            workers=self.workers,
            world=self.world,
        )
        loss, right = self._judge(features)
        return EpochReport(epoch, float(np.mean(losses)), loss, right)

    def learn(self, epoch: int) -> list[float]:
        """One pass over the training rows; the loss of each step."""
        options = self.options
        generator = np.random.default_rng([options.seed, 4, epoch])
        order = self._order(generator)
        # By place, not by row: a balanced sampler may show one row twice in an epoch.
        chances = draw_chances(len(order), (options.seed, 5, epoch))
        self.learner.learn()
        losses: list[torch.Tensor] = []
        seen = batches(
            self.material.pictures,
            order,
            self.batch_size,
            device=self.learner.device,
            change=lambda pixels, places: self.augmentation.changed(pixels, chances[places]),
            workers=self.workers,
            world=ALONE if self._stepper.sees_whole_batches else self.world,
        )
        for step, (rows, pixels) in enumerate(seen):
            self._stop_if_cancelled()
            if self._is_too_small(len(rows)) and len(order) > 1:
                continue
            losses.append(self._stepper.gradients(rows, pixels, generator))
            done, steps = (epoch - 1) * self._steps + step, options.epochs * self._steps
            set_rates(self._optimiser, rate_factor(done, steps, options.warmup_share))
            self._optimiser.step()
            # The loss before: a GPU goes on with this step while it is read.
            _check_finite(losses[-2:-1], epoch, step)
            self.teller.tell("training", epoch, step + 1, self._steps)
        _check_finite(losses[-1:], epoch, self._steps)
        return [float(loss) for loss in losses]

    def _order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        if self.options.balance != "sampler":
            return generator.permutation(self._rows)
        weights = row_weights(self.material.labels, self.material.trained)[self._rows]
        return generator.choice(self._rows, size=len(self._rows), p=weights / weights.sum())

    def _is_too_small(self, rows: int) -> bool:
        """Whether a batch normalisation that learns has nothing to measure, on one image."""
        shares = 1 if self.options.frozen_statistics else self.world.size
        return rows < 2 if shares == 1 else rows < 2 * shares

    def _judge(self, features: NDArray[np.float32]) -> tuple[float, float]:
        found = judge_features(self.learner, self.material.questions, self._watched, features)
        loss, right = self.world.agree(found, self.learner.device)
        return loss, right

    def _take(self, report: EpochReport, seconds: float | None = None) -> None:
        self.reports.append(report)
        self.teller.epoch_done(report, seconds)
        if self.best_epoch == report.epoch:
            state = self.learner.backbone.state_dict()
            self.best = {key: value.detach().cpu().clone() for key, value in state.items()}

    def _done(self) -> bool:
        epoch = self.reports[-1].epoch
        return epoch >= self.options.epochs or epoch - self.best_epoch >= self.options.patience

    def _stop_if_cancelled(self) -> None:
        if self._cancelled():
            raise Cancelled("The fine-tune was cancelled.")

    def _save(self, folder: Path, digest: str) -> None:
        tensors = {f"learner.{key}": value for key, value in self.learner.state_dict().items()}
        tensors |= {f"best.{key}": value for key, value in self.best.items()}
        description = {
            "digest": digest,
            "reports": [asdict(report) for report in self.reports],
            "augmentation": self.augmentation.name,
            "at_once": self._stepper.at_once,
            "seconds": self.teller.seconds,
        }
        save_checkpoint(folder, tensors | optimiser_tensors(self._optimiser), description)

    def _restore(self, folder: Path, digest: str) -> bool:
        """Go on from the checkpoint of the same call; whether there was one."""
        found = load_checkpoint(folder)
        if found is None or found[1].get("digest") != digest:
            return False
        tensors, description = found
        self.learner.load_state_dict(_part(tensors, "learner."))
        self.best = _part(tensors, "best.")
        restore_optimiser(self._optimiser, tensors)
        self.reports = [EpochReport(**report) for report in description["reports"]]
        self.teller.epoch_done(self.reports[-1])
        self.teller.seconds_before = description["seconds"]
        if self.world.size == 1:
            self._stepper.at_once = description["at_once"]
        strength = self.options.augmentation_strength
        self.augmentation = augmentation(description["augmentation"], strength)
        return True


def _check_finite(losses: Sequence[torch.Tensor], epoch: int, step: int) -> None:
    for loss in losses:
        if not bool(torch.isfinite(loss)):
            raise TrainingDiverged(
                f"The loss of step {step} in epoch {epoch} is {float(loss)}.",
                mend="Use a lower learning rate.",
            )


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
