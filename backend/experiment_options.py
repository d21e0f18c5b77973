"""What the commands for experiments share: their arguments, and how they begin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from backend.command import errors, escaped
from backend.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.experiment_progress import ExperimentProgress

INTERRUPTED = 130

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Folder with a sub-folder of images for each class, or an .npz file with X_train, "
        "y_train and perhaps X_test, y_test, class_names.",
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Seed of everything random; TIEBREAK_SEED if left out.")
]
InputSize = Annotated[
    int | None,
    typer.Option(
        min=32, max=512, help="Input of pretrained networks in pixels; by default from the images."
    ),
]


def names(listed: str) -> list[str]:
    """``a, b`` as two names."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def progress_bar() -> ExperimentProgress:
    """One bar on standard error."""
    from backend.experiment_progress import ExperimentProgress

    return ExperimentProgress(errors)


def tuning(settings: Settings, seed: int | None, augmentation: str | None = None) -> Any:
    """The options of a fine-tune from the settings, but for what is given."""
    from backend.tuning_options import tuning_options

    changes: dict[str, Any] = {} if seed is None else {"seed": seed}
    if augmentation is not None:
        changes["augmentation"] = augmentation
    return tuning_options(settings, **changes)


def say_left_out(progress: ExperimentProgress, left_out: Sequence[tuple[str, str]]) -> None:
    """Name images that cannot be read, the first of them."""
    if not left_out:
        return
    progress.say(f"[yellow]![/] {len(left_out)} images cannot be read and are left out:")
    for image, why in left_out[:5]:
        progress.say(f"  {escaped(image)}: {escaped(why)}")


def stop() -> NoReturn:
    """End after ctrl-c."""
    errors.print("Stopped. The same command goes on from here.")
    raise typer.Exit(INTERRUPTED)
