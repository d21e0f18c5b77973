"""Fine-tunes within a simulation: on the labels so far, from the original network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.labelled_data import ImageSet
from model.backbones import Backbone
from model.control_labels import ControlLabels
from model.embed import Embedder
from model.embed_images import Tell, embed_images
from model.epoch_clock import EpochClock
from model.finetune import finetune
from model.finetune_options import FineTuneOptions
from model.simulate import Features, draw_prior, prior_rows

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class FineTuner:
    """Fine-tunes for one replay: a :data:`model.simulate.FineTune`.

    ``load``        gives the original network, a fresh one each time
    ``checkpoints`` folder in which each fine-tune keeps its state, so that a killed one goes on
    """

    load: Callable[[], Backbone]
    pool: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    options: FineTuneOptions
    checkpoints: Path
    tell: Tell

    def __call__(self, positions: Positions, labels: Positions, last: bool) -> Features:
        """Features by a network that learned from the labelled images: of the test images, and of
        the pool, as much of it as is still asked about."""
        backbone, images = self.load(), self.pool.at(positions)
        known = np.ones(len(positions), dtype=np.bool_)
        clock = EpochClock(self.tell, None)
        tuned = finetune(
            backbone,
            images.load,
            [ControlLabels("class", self.classes, False, labels, known)],
            self.options,
            checkpoint=self.checkpoints / f"{len(positions)}-labels",
            on_progress=clock,
        )
        clock.flush()
        identity = f"{backbone.identity}-tuned"
        embedder = Embedder(replace(backbone, identity=identity, network=tuned.network))
        trained = np.zeros(len(self.pool), dtype=np.bool_)
        # The untouched network has seen no label.
        trained[positions] = tuned.trained & (tuned.best_epoch > 0)
        wanted = np.arange(len(self.pool))
        if last:
            wanted = np.union1d(positions, prior_rows(len(self.pool), self.options.seed))
        pool = np.zeros((len(self.pool), embedder.width), dtype=np.float16)
        pool[wanted] = embed_images(
            embedder, self.pool.at(wanted), "embedding the pool anew", self.tell
        )
        test = embed_images(embedder, self.test, "embedding test images anew", self.tell)
        return Features(pool, test, draw_prior(pool, self.options.seed), trained)
