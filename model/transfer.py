"""The ways of transfer, by name: learn from labelled images, then say what others are.

``features``          the backbone stays as it is, and a head is fitted on its embeddings
``features+augment``  the same, on the embeddings of each image and of changed copies of it
``finetune``          the backbone learns too (:func:`model.finetune.finetune`), then the head
``scratch``           the same for a network that knows nothing yet: no linear probe comes first
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.augment import AugmentationName, augmentation
from model.backbones import Backbone
from model.control_labels import ControlLabels
from model.embed import Embedder
from model.embed_images import Images, Tell, changed_copy, embed_images, embed_with_mirrors
from model.epoch_clock import EpochClock, OnEpoch
from model.errors import ArgumentError
from model.finetune import finetune
from model.finetune_options import FineTuneOptions
from model.head import HeadFit, fit_head
from model.metrics import accuracy
from model.splits import stratified_split
from model.tuning import MIRRORED_LOSS, MIRRORED_ROWS

TransferMode = Literal["features", "features+augment", "finetune", "scratch"]
MODES: Final[tuple[TransferMode, ...]] = get_args(TransferMode)

COPIES = 4
MIRRORED_SHARE = 0.25
TRAINING = "embedding training images"

Embeddings = NDArray[np.float16]


@dataclass(frozen=True)
class TransferOptions:
    """How a transfer goes; ``tuning`` is for ``finetune`` and ``scratch``, and its augmentation,
    strength and seed for all of them."""

    mode: TransferMode
    tuning: FineTuneOptions = field(default_factory=FineTuneOptions)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ArgumentError(f"mode={self.mode!r}; one of {', '.join(MODES)} is allowed.")


@dataclass(frozen=True, eq=False)
class Transferred:
    """What a way of transfer came to.

    ``probabilities``      (m, k) float32, calibrated, of the test images
    ``head``               the fitted head, and how it did on labels it had not seen
    ``parameters``         numbers in the backbone and the head; ``trainable``: those that learned
    ``epochs``             passes over the training images; 1 where the backbone stays as it is
    ``seconds``            spent on learning, all in all; ``seconds_per_epoch`` of that on one pass,
                           None when this call made none (it went on where all were done)
    ``augmentation``       what was done to the training images
    ``best_epoch``         whose weights were kept, 0 the untouched ones; None without tuning
    """

    probabilities: NDArray[np.float32]
    head: HeadFit
    parameters: int
    trainable: int
    epochs: int
    seconds: float
    seconds_per_epoch: float | None
    augmentation: AugmentationName
    best_epoch: int | None = None


def transfer(
    options: TransferOptions,
    backbone: Backbone,
    train: Images,
    test: Images,
    classes: Sequence[str],
    *,
    device: str | None = None,
    checkpoint: Path | None = None,
    on_progress: Tell | None = None,
    on_epoch: OnEpoch | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Transferred:
    """Learn from ``train`` and judge ``test``; the same arguments give the same probabilities.

    ``checkpoint`` is a folder from which a killed fine-tune goes on; ``on_epoch`` hears of each of
    its epochs. When ``cancelled`` says yes between two of its steps,
    :class:`model.finetune.Cancelled` is raised.

    ArgumentError when there is too little to learn from; what ``load`` raises is passed on.
    """
    work = _Work(
        options,
        train,
        test,
        tuple(classes),
        device,
        on_progress or (lambda what, done, total: None),
    )
    if options.mode == "features":
        return work.features(backbone)
    if options.mode == "features+augment":
        return work.features_augmented(backbone)
    return work.finetuned(backbone, checkpoint, on_epoch, cancelled)


@dataclass(frozen=True)
class _Work:
    options: TransferOptions
    train: Images
    test: Images
    classes: tuple[str, ...]
    device: str | None
    tell: Tell

    @property
    def seed(self) -> int:
        return self.options.tuning.seed

    def features(self, backbone: Backbone) -> Transferred:
        embedder = Embedder(backbone, device=self.device)
        began = time.monotonic()
        embeddings = embed_images(embedder, self.train, TRAINING, self.tell)
        head = self._fit(embeddings)
        return self._judged(backbone, embedder, head, time.monotonic() - began, "none")

    def features_augmented(self, backbone: Backbone) -> Transferred:
        embedder = Embedder(backbone, device=self.device)
        began, n = time.monotonic(), len(self.train)
        held = self._held()
        own, mirrored = embed_with_mirrors(embedder, self.train, held, TRAINING, self.tell)
        name = self._augmentation(own, mirrored, held)
        change = augmentation(name, self.options.tuning.augmentation_strength)
        rows = [own]
        for copy in range(COPIES if name != "none" else 0):

            def changed(
                row: int, image: Image.Image, copy: int = copy, side: int = backbone.input_size
            ) -> Image.Image:
                return changed_copy(image, side, change, (self.seed, 6, copy, row))

            what = f"embedding changed copies, {copy + 1} of {COPIES}"
            rows.append(embed_images(embedder, self.train, what, self.tell, changed))
        repeats = len(rows)
        head = self._fit(
            np.concatenate(rows),
            targets=np.tile(self.train.targets, repeats),
            groups=np.tile(np.arange(n), repeats),
            honest=np.arange(n * repeats) < n,
        )
        return self._judged(backbone, embedder, head, time.monotonic() - began, name)

    def finetuned(
        self,
        backbone: Backbone,
        checkpoint: Path | None,
        on_epoch: OnEpoch | None,
        cancelled: Callable[[], bool] | None,
    ) -> Transferred:
        n = len(self.train)
        known = np.ones(n, dtype=np.bool_)
        labels = ControlLabels("class", self.classes, False, self.train.targets, known)
        options = self.options.tuning
        if self.options.mode == "scratch":
            # Statistics of a pretraining that never was are not kept.
            options = replace(options, probe_first=False, frozen_statistics=False)
        clock = EpochClock(self.tell, on_epoch)
        tuned = finetune(
            backbone,
            self.train.load,
            [labels],
            options,
            device=self.device,
            checkpoint=checkpoint,
            on_progress=clock,
            cancelled=cancelled,
        )
        clock.flush()
        network = replace(backbone, identity=f"{backbone.identity}-tuned", network=tuned.network)
        embedder = Embedder(network, device=self.device)
        began = time.monotonic()
        embeddings = embed_images(embedder, self.train, TRAINING, self.tell)
        # The untouched network has seen no label: then every row is honest.
        honest = ~tuned.trained if tuned.best_epoch else known
        head = self._fit(embeddings, honest=honest)
        seconds = tuned.seconds + time.monotonic() - began
        judged = self._judged(network, embedder, head, seconds, tuned.augmentation)
        return replace(
            judged,
            trainable=judged.parameters,
            epochs=tuned.epochs[-1].epoch,
            seconds_per_epoch=clock.seconds_per_epoch,
            best_epoch=tuned.best_epoch,
        )

    def _fit(
        self,
        embeddings: Embeddings,
        *,
        targets: NDArray[np.int64] | None = None,
        groups: NDArray[np.int64] | None = None,
        honest: NDArray[np.bool_] | None = None,
    ) -> HeadFit:
        self.tell("fitting the head", 0, 1)
        head = fit_head(
            embeddings,
            self.train.targets if targets is None else targets,
            classes=self.classes,
            multiple=False,
            seed=self.seed,
            groups=groups,
            honest=honest,
        )
        self.tell("fitting the head", 1, 1)
        return head

    def _held(self) -> NDArray[np.bool_]:
        """(n,) which training images are looked at mirrored: none where it cannot be told so
        whether images may be mirrored, or is given."""
        held = np.zeros(len(self.train), dtype=np.bool_)
        if self.options.tuning.augmentation == "auto":
            generator = np.random.default_rng([self.seed, 7])
            _, rows = stratified_split(self.train.targets, MIRRORED_SHARE, generator)
            held[rows] = True
            few = len(rows) < MIRRORED_ROWS or len(np.unique(self.train.targets[~held])) < 2
            held &= not few
        return held

    def _augmentation(
        self, own: Embeddings, mirrored: Embeddings, held: NDArray[np.bool_]
    ) -> AugmentationName:
        """``auto`` resolved as a fine-tune does: mirror what is known as well when mirrored."""
        wanted, targets = self.options.tuning.augmentation, self.train.targets
        if wanted != "auto":
            return wanted
        if not held.any():
            return "characters"
        head = fit_head(
            own[~held], targets[~held], classes=self.classes, multiple=False, seed=self.seed
        ).head
        right, still = (
            accuracy(head.probabilities(rows), targets[held]) for rows in (own[held], mirrored)
        )
        return "photos" if still >= right - MIRRORED_LOSS else "characters"

    def _judged(
        self,
        backbone: Backbone,
        embedder: Embedder,
        head: HeadFit,
        seconds: float,
        augmentation: AugmentationName,
    ) -> Transferred:
        embeddings = embed_images(embedder, self.test, "embedding test images", self.tell)
        own = head.head.weights.size + head.head.bias.size
        return Transferred(
            probabilities=head.head.probabilities(embeddings),
            head=head,
            parameters=own + sum(p.numel() for p in backbone.network.parameters()),
            trainable=own,
            epochs=1,
            seconds=seconds,
            seconds_per_epoch=seconds,
            augmentation=augmentation,
        )
