"""Search for the settings of a fine-tune that suit some images, a study that can be gone on with.

A trial tunes the backbone on a part of the *training* images and is judged by its log loss on the
others of them; the test images are never looked at. The first trial has the settings as they are,
so what is gained is measured in the same way.

Every trial's chance comes from the seed and the number of trials before it. One that is cut short
is begun again, with the same options, and goes on from its checkpoint: a study that was killed
comes to the same trials as one that was not.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from backend.errors import SetupError
from backend.labelled_data import Drawn, ImageSet, LabelledData
from backend.results_file import key_of
from backend.tuning_options import TUNED
from model.backbones import Backbone
from model.embed_images import Tell
from model.errors import TiebreakError
from model.finetune import Cancelled
from model.finetune_options import FineTuneOptions
from model.metrics import accuracy, log_loss, wilson_interval
from model.splits import stratified_split
from model.transfer import TransferOptions, transfer

VALIDATION_SHARE = 0.2
RANDOM_TRIALS = 5
RATES = {"adamw": ((1e-5, 2e-3), (1e-4, 1e-2)), "sgd": ((1e-4, 1e-1), (1e-3, 1.0))}
"""Learning rates of the backbone and of the layers on top, by optimiser."""

WHY, DEFAULTS = "why", "defaults"

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """What is searched: ``defaults`` are the options to do better than, ``most_epochs`` the upper
    end of theirs."""

    defaults: FineTuneOptions
    most_epochs: int
    trials: int

    @property
    def first(self) -> FineTuneOptions:
        """The defaults, within the bounds of the search."""
        return replace(self.defaults, epochs=min(self.defaults.epochs, self.most_epochs))


@dataclass(frozen=True)
class Judged:
    """A finished trial. ``ended`` is ``complete``, ``pruned`` or ``failed``; only a complete one
    has a log loss, an accuracy with its interval, and seconds. ``why`` tells of a failure."""

    number: int
    ended: str
    options: dict[str, Any]
    defaults: bool
    log_loss: float | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float | None = None
    why: str = ""


@contextmanager
def open_study(
    storage: Path, data: LabelledData, drawn: Drawn, backbone: Backbone, search: Search
) -> Iterator[optuna.Study]:
    """The study of these images, network and bounds in the SQLite file ``storage``.

    :class:`SetupError` when the file is in use or cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = key_of(
        {
            "data": data.digest,
            "rows": drawn.train.rows.tolist(),
            "backbone": backbone.identity,
            "defaults": repr(search.first),
            "most_epochs": search.most_epochs,
        }
    )
    with _alone(storage):
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{storage.resolve()}",
                study_name=name,
                direction="minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
            )
        except Exception as error:  # SQLAlchemy, Alembic and Optuna each have their own
            why = next(iter(str(error).splitlines()), "")
            raise SetupError(
                f"{storage} cannot be used as a study ({type(error).__name__}: {why}).",
                mend="Name another file with --storage.",
            ) from None
        yield study


def run_study(
    study: optuna.Study,
    storage: Path,
    data: LabelledData,
    drawn: Drawn,
    backbone: Backbone,
    search: Search,
    *,
    on_trial: Callable[[int], None],
    tell: Tell,
) -> Iterator[Judged]:
    """Do the trials that are missing, and give each one when it is finished."""
    for cut_short in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(cut_short.number, state=TrialState.FAIL)
    fitted, held = held_rows(drawn, search)
    parts = drawn.train.at(fitted), drawn.train.at(held)
    while (number := len(finished(study))) < search.trials:
        study.sampler = optuna.samplers.TPESampler(
            seed=_seed(search.defaults.seed, number), n_startup_trials=RANDOM_TRIALS
        )
        if number == 0 and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(_parameters(search.first), user_attrs={DEFAULTS: True})
        trial = study.ask()
        options = _suggested(trial, search)
        trial.set_user_attr("options", {name: getattr(options, name) for name in TUNED})
        on_trial(number + 1)
        checkpoint = storage.with_name(
            f"{storage.name}.{key_of({'study': study.study_name, 'at': number})}.unfinished"
        )
        _judge(study, trial, options, parts, data.classes, backbone, checkpoint, tell)
        shutil.rmtree(checkpoint, ignore_errors=True)
        yield finished(study)[-1]


def held_rows(drawn: Drawn, search: Search) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the training images that trials learn from, and of those that judge them."""
    generator = np.random.default_rng([search.defaults.seed, 8])
    return stratified_split(drawn.train.targets, VALIDATION_SHARE, generator)


def finished(study: optuna.Study) -> list[Judged]:
    """The finished trials, in their order; those that were cut short are not among them."""
    return [
        _as_judged(number, trial)
        for number, trial in enumerate(
            trial
            for trial in study.get_trials(deepcopy=False)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or WHY in trial.user_attrs
        )
    ]


def ranked(trials: list[Judged]) -> list[Judged]:
    """The complete trials, the lowest log loss first; of equals the earlier."""
    complete = [trial for trial in trials if trial.log_loss is not None]
    return sorted(complete, key=lambda trial: (trial.log_loss, trial.number))


def _judge(
    study: optuna.Study,
    trial: optuna.Trial,
    options: FineTuneOptions,
    parts: tuple[ImageSet, ImageSet],
    classes: tuple[str, ...],
    backbone: Backbone,
    checkpoint: Path,
    tell: Tell,
) -> None:
    """Measure one trial and write down how it ended."""
    hopeless = False

    def on_epoch(epoch: int, loss: float) -> None:
        nonlocal hopeless
        trial.report(loss, epoch)
        # The trial that the others are compared with is always finished.
        hopeless = not trial.user_attrs.get(DEFAULTS) and trial.should_prune()

    try:
        done = transfer(
            TransferOptions("finetune", options),
            backbone,
            *parts,
            classes,
            checkpoint=checkpoint,
            on_progress=tell,
            on_epoch=on_epoch,
            cancelled=lambda: hopeless,
        )
    except Cancelled:
        study.tell(trial, state=TrialState.PRUNED)
        return
    except TiebreakError as error:  # such as a rate at which the training diverged
        trial.set_user_attr(WHY, error.message)
        study.tell(trial, state=TrialState.FAIL)
        return
    right = accuracy(done.probabilities, parts[1].targets)
    low, high = wilson_interval(round(right * len(parts[1])), len(parts[1]))
    measured = {"accuracy": right, "low": low, "high": high, "seconds": round(done.seconds, 1)}
    for name, value in measured.items():
        trial.set_user_attr(name, value)
    study.tell(trial, log_loss(done.probabilities, parts[1].targets))


def _suggested(trial: optuna.Trial, search: Search) -> FineTuneOptions:
    optimiser = trial.suggest_categorical("optimiser", list(RATES))
    backbone, head = RATES[optimiser]
    changes: dict[str, Any] = {
        "optimiser": optimiser,
        "backbone_rate": trial.suggest_float(f"{optimiser}_backbone_rate", *backbone, log=True),
        "head_rate": trial.suggest_float(f"{optimiser}_head_rate", *head, log=True),
        "epochs": trial.suggest_int("epochs", 1, search.most_epochs),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 0.2, log=True),
        "augmentation_strength": trial.suggest_float("augmentation_strength", 0.0, 2.0),
    }
    if optimiser == "sgd":
        changes["momentum"] = trial.suggest_float("momentum", 0.5, 0.99)
    if trial.user_attrs.get(DEFAULTS):
        return search.first  # also where a setting is outside the bounds
    rounded: dict[str, Any] = {
        name: float(f"{value:.3g}") if isinstance(value, float) else value
        for name, value in changes.items()
    }
    return replace(search.defaults, **rounded)


def _parameters(options: FineTuneOptions) -> dict[str, Any]:
    """Options as Optuna knows them, moved into the bounds."""
    backbone, head = RATES[options.optimiser]
    return {
        "optimiser": options.optimiser,
        f"{options.optimiser}_backbone_rate": float(np.clip(options.backbone_rate, *backbone)),
        f"{options.optimiser}_head_rate": float(np.clip(options.head_rate, *head)),
        "epochs": options.epochs,
        "weight_decay": float(np.clip(options.weight_decay, 1e-5, 0.2)),
        "augmentation_strength": float(np.clip(options.augmentation_strength, 0.0, 2.0)),
        **({"momentum": float(np.clip(options.momentum, 0.5, 0.99))} if _sgd(options) else {}),
    }


def _sgd(options: FineTuneOptions) -> bool:
    return options.optimiser == "sgd"


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, 9, number]).generate_state(1)[0])


def _as_judged(number: int, trial: FrozenTrial) -> Judged:
    known: Attributes = trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    return Judged(
        number=number,
        ended="failed" if WHY in known else "complete" if complete else "pruned",
        options=dict(known["options"]),
        defaults=bool(known.get(DEFAULTS)),
        log_loss=trial.value if complete else None,
        accuracy=known.get("accuracy"),
        low=known.get("low"),
        high=known.get("high"),
        seconds=known.get("seconds"),
        why=known.get(WHY, ""),
    )


@contextmanager
def _alone(storage: Path) -> Iterator[None]:
    """Nobody else runs trials of this file meanwhile; the system lets go when a process ends."""
    try:
        lock = storage.with_name(f"{storage.name}.lock").open("a")
    except OSError as error:
        raise SetupError(
            f"{storage} cannot be written ({error.strerror}).",
            mend="Name another file with --storage.",
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SetupError(
                f"Another `tiebreak tune` is at work on {storage}.",
                mend="Wait for it, stop it, or name another file with --storage.",
            ) from None
        yield
