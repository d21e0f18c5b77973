"""Every backbone with every way of transfer, on the same images."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backend.errors import SetupError
from backend.labelled_data import Drawn, LabelledData
from backend.peak_memory import PeakMemory
from backend.results_file import ResultsFile, key_of
from backend.settings import Settings
from model.backbones import (
    BACKBONES,
    FROM_SCRATCH,
    Backbone,
    default_input_size,
    load_backbone,
)
from model.embed_images import Tell
from model.errors import TiebreakError
from model.evaluation import evaluate
from model.finetune_options import FineTuneOptions
from model.scratch import SCRATCH, build_scratch
from model.transfer import MODES, TransferMode, TransferOptions, Transferred, transfer

SCRATCH_EPOCHS = 30
SCRATCH_RATE = 1e-3
METRICS = ("accuracy", "macro_f1", "roc_auc", "log_loss", "ece")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One row of a comparison: a backbone and a way of transfer."""

    backbone: str
    mode: TransferMode

    @property
    def name(self) -> str:
        return f"{self.backbone} {self.mode}"


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    ``input_size``  of pretrained networks, in pixels; by default from the size of the images
    ``epochs``      of what is tuned; by default those of the settings, and 30 from scratch
    """

    trials: tuple[Trial, ...]
    tuning: FineTuneOptions
    labels: int | None = None
    test: int | None = None
    input_size: int | None = None
    epochs: int | None = None

    def options(self, mode: TransferMode) -> TransferOptions:
        """How a trial of that mode learns."""
        tuning = self.tuning
        if mode == "scratch":
            tuning = replace(
                tuning,
                epochs=SCRATCH_EPOCHS,
                patience=SCRATCH_EPOCHS,
                backbone_rate=SCRATCH_RATE,
                head_rate=SCRATCH_RATE,
            )
        if self.epochs is not None:
            tuning = replace(tuning, epochs=self.epochs)
        return TransferOptions(mode, tuning)

    def side(self, trial: Trial, shorter_side: int) -> int:
        """Side in pixels of the trial's square input."""
        if trial.mode == "scratch":
            return SCRATCH[trial.backbone].input_size
        return self.input_size or default_input_size(shorter_side)


def plan_trials(backbones: Sequence[str], modes: Sequence[str]) -> tuple[Trial, ...]:
    """Every pretrained backbone with every mode, and a network without weights from scratch.

    :class:`SetupError` for a name that is not known, and when nothing is left to do.
    """
    known = (*BACKBONES, *FROM_SCRATCH)
    for kind, names, allowed in (("--backbones", backbones, known), ("--modes", modes, MODES)):
        odd = [name for name in names if name not in allowed]
        if odd:
            raise SetupError(
                f"{kind} names {', '.join(odd)}.", mend=f"Known are {', '.join(allowed)}."
            )
    trials = [
        Trial(backbone, mode)
        for backbone in dict.fromkeys(backbones)
        for mode in MODES
        if (mode == "scratch" if backbone in FROM_SCRATCH else mode != "scratch" and mode in modes)
    ]
    if not trials:
        raise SetupError(
            "There is nothing to compare.",
            mend=f"Name backbones and modes; {', '.join(FROM_SCRATCH)} train from scratch.",
        )
    return tuple(trials)


def compare(
    data: LabelledData,
    drawn: Drawn,
    comparison: Comparison,
    settings: Settings,
    results: ResultsFile,
    *,
    on_trial: Callable[[Trial], None],
    tell: Tell,
) -> Iterator[dict[str, Any]]:
    """One row for each trial, in their order; finished ones are in ``results`` and are not redone.

    A row has ``key``, ``backbone``, ``mode``, ``input_size``, ``labels``, ``test``; ``metrics``, as
    :func:`model.evaluation.evaluate` gives them; ``parameters``, ``trainable``, ``epochs``,
    ``best_epoch``, ``seconds``, ``seconds_per_epoch``, ``took`` (testing too), ``peak_bytes``,
    ``augmentation``; ``error`` and ``mend``, which are empty unless the trial failed; and
    ``earlier``, whether it was done before. A trial that fails is tried again the next time.
    """
    done = results.rows()
    for trial in comparison.trials:
        side = comparison.side(trial, drawn.shorter_side)
        row: dict[str, Any] = {
            "key": _key(data, drawn, comparison, settings, trial, side),
            "backbone": trial.backbone,
            "mode": trial.mode,
            "input_size": side,
            "labels": len(drawn.train),
            "test": len(drawn.test),
        }
        before = done.get(row["key"])
        if before is not None and not before.get("error"):
            yield before | {"earlier": True}
            continue
        on_trial(trial)
        checkpoint = results.path.with_name(f"{results.path.stem}.{row['key']}.unfinished")
        try:
            row |= _measure(data, drawn, comparison, settings, trial, side, checkpoint, tell)
        except TiebreakError as error:
            row |= {"error": error.message, "mend": error.mend}
        # One network that fails, whatever it is, leaves the others their turn.
        except Exception as error:
            logger.exception("%s failed", trial.name)
            why = next(iter(str(error).splitlines()), "")
            row |= {"error": f"{type(error).__name__}: {why}", "mend": ""}
        results.add(row)
        shutil.rmtree(checkpoint, ignore_errors=True)
        yield row | {"earlier": False}


def _measure(
    data: LabelledData,
    drawn: Drawn,
    comparison: Comparison,
    settings: Settings,
    trial: Trial,
    side: int,
    checkpoint: Path,
    tell: Tell,
) -> dict[str, Any]:
    options = comparison.options(trial.mode)
    backbone = load_network(trial.backbone, side, options.tuning.seed, settings, tell)
    memory, began = PeakMemory(), time.monotonic()
    done = transfer(
        options,
        backbone,
        drawn.train,
        drawn.test,
        data.classes,
        checkpoint=checkpoint,
        on_progress=tell,
    )
    took, peak = time.monotonic() - began, memory.bytes
    tell("measuring", 0, 1)
    metrics = evaluate(
        done.probabilities, drawn.test.targets, data.classes, False, options.tuning.seed
    )
    tell("measuring", 1, 1)
    return _costs(done) | {
        "identity": backbone.identity,
        "metrics": metrics,
        "took": round(took, 3),
        "peak_bytes": peak,
        "error": "",
        "mend": "",
    }


def load_network(name: str, side: int, seed: int, settings: Settings, tell: Tell) -> Backbone:
    """A backbone with its pretrained weights, or one of the networks that have none."""
    if name in FROM_SCRATCH:
        return build_scratch(name, seed, input_size=side)
    return load_backbone(
        name,
        input_size=side,
        weights_dir=settings.weights_dir,
        cache_dir=settings.weights_cache,
        on_progress=lambda line: tell(line, 0, 0),
    )


def succeeded(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have metrics."""
    return [row for row in rows if not row["error"]]


def _costs(done: Transferred) -> dict[str, Any]:
    per_epoch = done.seconds_per_epoch
    return {
        "parameters": done.parameters,
        "trainable": done.trainable,
        "epochs": done.epochs,
        "best_epoch": done.best_epoch,
        "seconds": round(done.seconds, 3),
        "seconds_per_epoch": None if per_epoch is None else round(per_epoch, 3),
        "augmentation": done.augmentation,
    }


def _key(
    data: LabelledData,
    drawn: Drawn,
    comparison: Comparison,
    settings: Settings,
    trial: Trial,
    side: int,
) -> str:
    """What the numbers of a row depend on; times are those of the machine that ran it."""
    return key_of(
        {
            "data": data.digest,
            "rows": [part.rows.tolist() for part in (drawn.train, drawn.test)],
            "backbone": trial.backbone,
            "weights": str(settings.weights_dir),
            "side": side,
            "options": _options_that_count(comparison.options(trial.mode)),
        }
    )


def _options_that_count(options: TransferOptions) -> dict[str, Any]:
    if options.mode in ("finetune", "scratch"):
        return asdict(options)
    names = ["seed"]
    if options.mode == "features+augment":
        names += ["augmentation", "augmentation_strength"]
    return {"mode": options.mode, **{name: getattr(options.tuning, name) for name in names}}
