"""Experiments on labelled images, without Label Studio: ``tiebreak compare`` and ``tune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.command import Json, command, errors, escaped, print_table
from backend.errors import SetupError
from backend.experiment_options import (
    Data,
    InputSize,
    Seed,
    names,
    progress_bar,
    say_left_out,
    stop,
    tuning,
)
from backend.settings import Settings, load_settings

if TYPE_CHECKING:
    from backend.compare_backbones import Comparison
    from backend.experiment_progress import ExperimentProgress
    from backend.labelled_data import Drawn, LabelledData

app = typer.Typer()
Labels = Annotated[
    int | None,
    typer.Option(min=2, help="Training images, of each class its share; all if left out."),
]
AugmentationOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="auto, photos, any-way-up, characters or none; TIEBREAK_AUGMENTATION if left out.",
    ),
]


@app.command()
@command
def compare(
    data: Data,
    backbones: Annotated[
        str, typer.Option(metavar="NAMES", help="Networks, as in mobilenet_v2,resnet18,small_cnn.")
    ] = "mobilenet_v2",
    modes: Annotated[
        str, typer.Option(metavar="NAMES", help="Ways of transfer.")
    ] = "features,features+augment,finetune",
    labels: Labels = None,
    test: Annotated[
        int | None,
        typer.Option(min=1, help="Test images, of each class its share; all if left out."),
    ] = None,
    seed: Seed = None,
    input_size: InputSize = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most passes over the images where a network learns.")
    ] = None,
    augmentation: AugmentationOption = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The page with the table and the plots.")
    ] = Path("comparison.html"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do every row again, also those of an earlier run.")
    ] = False,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Compare pretrained networks and ways of transfer on labelled images: one table, one page.

    \b
    tiebreak compare photos/ --labels 500
    tiebreak compare cifar10.npz --backbones mobilenet_v2,resnet18,small_cnn
    tiebreak compare letters/ --modes features,finetune --augmentation characters

    A killed run goes on where it was when the same command is given again.
    """
    from backend.compare_backbones import Comparison, plan_trials

    settings = load_settings()
    trials = plan_trials(names(backbones), names(modes))
    comparison = Comparison(
        trials,
        tuning(settings, seed, augmentation),
        labels=labels,
        test=test,
        input_size=input_size,
        epochs=epochs,
    )
    with progress_bar() as progress:
        found, drawn = _images(
            data, comparison.tuning.seed, settings, progress, labels, test, input_size
        )
        run = _Run(found, drawn, comparison, settings, out, progress)
        stopped = run.compare(fresh)
    return run.report(stopped, as_json)


@app.command()
@command
def tune(
    data: Data,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="TIEBREAK_BACKBONE if left out.")
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, those of earlier runs counted.")
    ] = 20,
    storage: Annotated[
        Path, typer.Option(metavar="FILE", help="SQLite file that holds the trials.")
    ] = Path("tune.db"),
    out: Annotated[Path, typer.Option(metavar="FILE", help="Settings file for the winner.")] = Path(
        "winner.env"
    ),
    labels: Labels = None,
    seed: Seed = None,
    input_size: InputSize = None,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs that a trial may have.")] = 24,
    augmentation: AugmentationOption = None,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Search for the settings of a fine-tune that suit some images, and write them to a file:
    optimiser, learning rates, momentum, epochs, weight decay, strength of the augmentation.

    \b
    tiebreak tune photos/ --trials 30 --labels 1000
    set -a; . ./winner.env; set +a; tiebreak trainer

    Trials are judged on a part of the training images, never on the test images. The same command
    goes on where a killed one was.
    """
    from backend.tune import Search
    from backend.tune_run import TuneRun

    settings = load_settings()
    defaults = tuning(settings, seed, augmentation)
    with progress_bar() as progress:
        found, drawn = _images(data, defaults.seed, settings, progress, labels, 1, input_size)
        run = TuneRun(found, drawn, Search(defaults, epochs, trials), settings, storage, out)
        run.start(backbone or settings.backbone, input_size, progress)
        stopped = run.go_on(progress)
    return run.report(stopped, as_json)


@dataclass
class _Run:
    """One comparison, its page and its table."""

    data: LabelledData
    drawn: Drawn
    comparison: Comparison
    settings: Settings
    out: Path
    progress: ExperimentProgress

    def __post_init__(self) -> None:
        from backend.results_file import ResultsFile

        self.results = ResultsFile(self.out.with_suffix(".results.jsonl"))
        self.rows: list[dict[str, Any]] = []

    def compare(self, fresh: bool) -> bool:
        """Do what is not done yet; whether somebody pressed ctrl-c."""
        from backend.compare_backbones import compare
        from backend.compare_table import row_line

        if fresh:
            self.results.forget()
        done = compare(
            self.data,
            self.drawn,
            self.comparison,
            self.settings,
            self.results,
            on_trial=lambda trial: self.progress.head(trial.name),
            tell=self.progress.tell,
        )
        try:
            for row in done:
                self.rows.append(row)
                self.progress.say(row_line(row))
                self._write()
        except KeyboardInterrupt:
            return True
        return False

    def report(self, stopped: bool, as_json: bool) -> dict[str, Any]:
        """Print the table; the JSON that the command prints otherwise."""
        from backend.compare_backbones import succeeded
        from backend.compare_table import comparison_table

        if not as_json and self.rows:
            print_table(comparison_table(self.rows))
            errors.print(f"The page: {escaped(str(self.out))}")
        if stopped:
            stop()
        if not succeeded(self.rows):
            raise SetupError(
                "Nothing could be compared: every row failed.", mend=self.rows[0]["mend"]
            )
        return {
            "data": self.data.name,
            "classes": list(self.data.classes),
            "labels": len(self.drawn.train),
            "test": len(self.drawn.test),
            "left_out": [{"image": image, "why": why} for image, why in self.drawn.left_out],
            "seed": self.comparison.tuning.seed,
            "page": str(self.out),
            "results": str(self.results.path),
            "rows": self.rows,
        }

    def _write(self) -> None:
        from backend.compare_page import PageText, comparison_page
        from backend.experiment_page import write_page
        from backend.machine import machine_name

        left = len(self.comparison.trials) - len(self.rows)
        parts = [
            f"{len(self.drawn.train):,} labels",
            f"{len(self.drawn.test):,} test images",
            f"{len(self.data.classes)} classes",
            f"seed {self.comparison.tuning.seed}",
            *([f"{left} rows are not done yet"] if left else []),
        ]
        text = PageText(f"Networks compared on {self.data.name}", ", ".join(parts), machine_name())
        write_page(self.out, comparison_page(text, self.rows))


def _images(
    path: Path,
    seed: int,
    settings: Settings,
    progress: ExperimentProgress,
    labels: int | None,
    test: int | None,
    input_size: int | None,
) -> tuple[LabelledData, Drawn]:
    """What DATA holds, and the part of it that is used; says which images cannot be."""
    from backend.labelled_data import draw
    from backend.read_data import read_labelled_data

    side = max(settings.working_copy_side, input_size or 0)
    data = read_labelled_data(path, seed=seed, side=side, max_pixels=settings.image_max_pixels)
    drawn = draw(
        data,
        labels=labels,
        test=test,
        seed=seed,
        on_progress=lambda done, total: progress.tell("looking at images", done, total),
    )
    say_left_out(progress, drawn.left_out)
    held = ", held out from the rest" if data.held_out else ""
    progress.say(
        f"{escaped(data.name)}: {len(data.classes)} classes, {len(drawn.train):,} images to learn "
        f"from, {len(drawn.test):,} to test on{held}"
    )
    return data, drawn
