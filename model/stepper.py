"""The gradients of one step: within the memory there is, and over the processes there are."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.devices import out_of_memory
from model.learner import Learner, Objective
from model.world import ALONE, World

logger = logging.getLogger(__name__)


class Stepper:
    """Gradients of a batch, half as many images at once each time that memory runs out, for good.
    The step stays that of the whole batch.

    Of several processes each takes its share of the batch (:mod:`model.world`), and all get the
    same gradients. There, memory that runs out ends the training: the others would wait for ever.
    """

    def __init__(
        self, learner: Learner, objective: Objective, batch_size: int, world: World = ALONE
    ) -> None:
        self.learner, self.objective, self.world = learner, objective, world
        self.at_once = batch_size
        self._spread: nn.Module = learner

    def begin(self, *, moving_statistics: bool) -> None:
        """From here on the weights change, from those of the first process."""
        self._spread = self.world.spread(self.learner, moving_statistics=moving_statistics)

    @property
    def sees_whole_batches(self) -> bool:
        """Whether this process needs the pictures of the others too, to mix them with its own."""
        return self.world.size == 1 or self.objective.mixup > 0

    def gradients(
        self, rows: NDArray[np.int64], pixels: torch.Tensor, generator: np.random.Generator
    ) -> torch.Tensor:
        """Leave the gradients of the batch's mean loss in the parameters; the loss, on the device.

        A GPU may still be at it when this returns: reading the loss waits for it.

        ``pixels``  of all rows where :attr:`sees_whole_batches`, else of this process's share
        """
        device = self.learner.device
        share = self.world.share(len(rows))
        scale = self.world.size / len(rows)
        if share.start == share.stop:  # nothing of its own: all the same it takes part
            share, scale = slice(0, 1), 0.0
        partners, kept = np.arange(len(rows)), 1.0
        if self.sees_whole_batches:
            pixels, partners, kept = self.objective.mixed(pixels, generator)
            pixels = pixels[share]
        own = torch.from_numpy(rows[share]).to(device)
        other = torch.from_numpy(rows[partners[share]]).to(device)
        while True:
            try:
                loss = self._gradients(own, other, pixels, kept, scale)
                return self.world.total(loss) / self.world.size
            except RuntimeError as error:
                if not out_of_memory(error) or self.at_once == 1 or self.world.size > 1:
                    raise
            self.at_once = (self.at_once + 1) // 2
            if device.type == "cuda":
                torch.cuda.empty_cache()
            logger.warning("memory ran out; %d images at once from now on", self.at_once)

    def _gradients(
        self,
        own: torch.Tensor,
        other: torch.Tensor,
        pictures: torch.Tensor,
        kept: float,
        scale: float,
    ) -> torch.Tensor:
        self.learner.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.learner.device)
        for start in range(0, len(own), self.at_once):
            part = slice(start, start + self.at_once)
            logits = self._spread(pictures[part].to(self.learner.device))
            loss = self.objective.loss(logits, own[part], other[part], kept, scale)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total
