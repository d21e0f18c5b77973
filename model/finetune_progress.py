"""How far a fine-tune is, told about twice a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.validation import EpochReport

Phase = Literal["reading images", "fitting the probe", "training"]
TOLD_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class FineTuneProgress:
    """How far a fine-tune is.

    ``epoch`` counts from 1 and is 0 before the first; ``step`` of ``steps`` are those of this epoch
    or, before it, images. ``seconds`` spent on it; ``eta_seconds`` to go at most, once it can be
    told. The two of validation are of the last epoch that is done.
    """

    phase: Phase
    epoch: int
    epochs: int
    step: int
    steps: int
    seconds: float
    eta_seconds: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


class Teller:
    """Tells a listener, and keeps the time. ``seconds`` were spent before an interruption."""

    def __init__(self, listener: Callable[[FineTuneProgress], None], epochs: int) -> None:
        self._listener, self._epochs = listener, epochs
        self._began = self._told = time.monotonic()
        self._epoch_seconds: list[float] = []
        self._last: EpochReport | None = None
        self.seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return self.seconds_before + time.monotonic() - self._began

    def epoch_done(self, report: EpochReport, seconds: float | None = None) -> None:
        """Take note of an epoch, and of how long it took where that says something of the next."""
        self._last = report
        if seconds is not None:
            self._epoch_seconds.append(seconds)

    def tell(self, phase: Phase, epoch: int, step: int, steps: int, *, now: bool = False) -> None:
        """Tell the listener, unless it was told a moment ago; ``now`` in any case."""
        moment = time.monotonic()
        if not now and moment - self._told < TOLD_EVERY_SECONDS:
            return
        self._told = moment
        last = self._last
        self._listener(
            FineTuneProgress(
                phase,
                epoch,
                self._epochs,
                step,
                steps,
                self.seconds,
                self._eta(epoch, step / max(1, steps)),
                last.loss if last else None,
                last.accuracy if last else None,
            )
        )

    def _eta(self, epoch: int, share: float) -> float | None:
        if not self._epoch_seconds:
            return None
        return float(np.mean(self._epoch_seconds)) * (self._epochs - epoch + 1 - share)
