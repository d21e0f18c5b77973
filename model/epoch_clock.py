"""What a fine-tune tells of itself, by epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.embed_images import Tell
from model.finetune import FineTuneProgress

OnEpoch = Callable[[int, float], None]
"""Gets the number of an epoch, from 1, and its log loss on the rows that are only watched."""


class EpochClock:
    """Passes the progress of a fine-tune on, and takes the time of its epochs.

    The end of an epoch may be told twice, before and after its watched rows are judged; the last
    word counts, so an epoch is passed on when something later is told.
    """

    def __init__(self, tell: Tell, on_epoch: OnEpoch | None) -> None:
        self._tell, self._on_epoch = tell, on_epoch
        self._ended: FineTuneProgress | None = None
        self._before: float | None = None
        self._times: list[float] = []

    def __call__(self, now: FineTuneProgress) -> None:
        if self._ended is not None and now.epoch != self._ended.epoch:
            self.flush()
        if now.phase != "training":
            self._before = now.seconds
            self._tell(now.phase, now.step, now.steps)
            return
        if now.step == now.steps:
            self._ended = now
        done = (now.epoch - 1) * now.steps + now.step
        self._tell(f"training, epoch {now.epoch} of {now.epochs}", done, now.epochs * now.steps)

    def flush(self) -> None:
        """Pass on the epoch that ended last."""
        if self._ended is None:
            return
        epoch, ended, loss = self._ended.epoch, self._ended.seconds, self._ended.validation_loss
        self._ended = None
        if self._before is not None:
            self._times.append(ended - self._before)
        self._before = ended
        if self._on_epoch is not None and loss is not None:
            self._on_epoch(epoch, loss)

    @property
    def seconds_per_epoch(self) -> float | None:
        """Mean over the epochs since the call; None without any."""
        return float(np.mean(self._times)) if self._times else None
