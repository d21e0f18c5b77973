"""Labelling replayed on labelled images, without Label Studio: ``tiebreak simulate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.command import Json, command, errors, escaped, print_table
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
    from backend.experiment_progress import ExperimentProgress
    from backend.simulation import Simulation
    from backend.simulation_plan import Plan

app = typer.Typer()


@app.command()
@command
def simulate(
    data: Data,
    strategies: Annotated[
        str, typer.Option(metavar="NAMES", help="Ways to choose the next images.")
    ] = "auto,random",
    budgets: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Numbers of labels at which accuracy is measured, as in 20,50,100; if left out "
            "20 to 2,000, as far as the images go.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many times, each with images and chance of its own.")
    ] = 3,
    seed: Seed = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="TIEBREAK_BACKBONE if left out.")
    ] = None,
    input_size: InputSize = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Labels between two retrainings; if left out 10, and from 100 labels on a tenth "
            "of them: in steps of 10, 2,000 labels are 200 trainings for each strategy and seed.",
        ),
    ] = None,
    start: Annotated[
        int, typer.Option(min=0, help="Labels drawn by chance before a strategy is asked.")
    ] = 0,
    imbalance: Annotated[
        float,
        typer.Option(
            min=1, help="How many times the images of the rarest class the commonest has."
        ),
    ] = 1.0,
    label_noise: Annotated[
        float, typer.Option(min=0, max=1, help="Share of labels that are wrong; test labels stay.")
    ] = 0.0,
    finetune_at: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Numbers of labels at which the network is fine-tuned, as in 500,1000. Takes "
            "minutes or more each.",
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Accuracy to reach; random's at its last budget if left out."
        ),
    ] = None,
    pool: Annotated[
        int | None,
        typer.Option(min=2, help="Most images to label, of each class its share; all if left out."),
    ] = None,
    test: Annotated[
        int | None,
        typer.Option(min=1, help="Test images, of each class its share; all if left out."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The page with the table and the plots.")
    ] = Path("simulation.html"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do every run again, also those of an earlier time.")
    ] = False,
    as_json: Json = False,
) -> dict[str, Any] | None:
    """Replay a labelled data set as if it were being labelled: how many labels each strategy
    needs.

    \b
    tiebreak simulate photos/ --strategies auto,random --budgets 20,50,100
    tiebreak simulate cifar10.npz --pool 5000 --imbalance 10 --label-noise 0.05
    tiebreak simulate cifar10.npz --budgets 200,500,1000 --finetune-at 500,1000

    Images are embedded once and kept for the next time. A killed run goes on where it was when the
    same command is given again.
    """
    from backend.simulation_plan import BUDGETS, Plan, numbers

    settings = load_settings()
    first = settings.seed if seed is None else seed
    plan = Plan(
        strategies=tuple(dict.fromkeys(names(strategies))),
        budgets=BUDGETS if budgets is None else numbers("--budgets", budgets),
        seeds=tuple(range(first, first + seeds)),
        tuning=tuning(settings, seed),
        batch=batch,
        start=start,
        pool=pool,
        test=test,
        imbalance=imbalance,
        label_noise=label_noise,
        finetune_at=() if finetune_at is None else numbers("--finetune-at", finetune_at),
        cut=budgets is None,
    )
    with progress_bar() as progress:
        try:
            simulation = _prepared(
                data, plan, backbone or settings.backbone, input_size, settings, progress
            )
        except KeyboardInterrupt:
            stop()
        run = _Run(simulation, target, out, progress)
        stopped = run.go_on(fresh)
    return run.report(stopped, as_json)


def _prepared(
    path: Path,
    plan: Plan,
    backbone: str,
    input_size: int | None,
    settings: Settings,
    progress: ExperimentProgress,
) -> Simulation:
    """The plan on what DATA holds; says what is there and what cannot be read."""
    from backend.read_data import read_labelled_data
    from backend.simulation import prepare
    from backend.simulation_images import usual_input_size
    from model.backbones import check_backbone, load_backbone

    side = max(settings.working_copy_side, input_size or 0)
    data = read_labelled_data(
        path, seed=plan.seeds[0], side=side, max_pixels=settings.image_max_pixels
    )
    size = input_size or usual_input_size(data)
    check_backbone(backbone, size)
    network = load_backbone(
        backbone,
        input_size=size,
        weights_dir=settings.weights_dir,
        cache_dir=settings.weights_cache,
        on_progress=lambda line: progress.tell(line, 0, 0),
    )
    simulation = prepare(data, plan, network, settings, progress.tell)
    say_left_out(progress, simulation.left_out)
    held = ", held out from the rest" if data.held_out else ""
    pool = max(len(project.images) for project in simulation.projects.values())
    progress.say(
        f"{escaped(data.name)}: {len(data.classes)} classes, {pool:,} images to label, "
        f"{len(simulation.test):,} to test on{held}"
    )
    return simulation


@dataclass
class _Run:
    """One simulation, its page and its table."""

    simulation: Simulation
    target: float | None
    out: Path
    progress: ExperimentProgress

    def __post_init__(self) -> None:
        from backend.results_file import ResultsFile

        self.results = ResultsFile(self.out.with_suffix(".results.jsonl"))
        self.rows: list[dict[str, Any]] = []

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.simulation.plan.strategies) * len(self.simulation.plan.seeds)

    def go_on(self, fresh: bool) -> bool:
        """Do what is not done yet; whether somebody pressed ctrl-c."""
        from backend.simulate_table import run_line
        from backend.simulation import simulate

        if fresh:
            self.results.forget()
        done = simulate(self.simulation, self.results, on_run=self._head, tell=self.progress.tell)
        try:
            for row in done:
                self.rows.append(row)
                self.progress.say(run_line(row))
                self._write()
        except KeyboardInterrupt:
            return True
        return False

    def report(self, stopped: bool, as_json: bool) -> dict[str, Any]:
        """Print the table; the JSON that the command prints otherwise."""
        from backend.simulate_table import simulation_table
        from backend.simulation_text import sentences

        summary = self._summary()
        if not as_json and self.rows:
            print_table(simulation_table(summary))
            for sentence in sentences(summary):
                print(sentence)
            errors.print(f"The page: {escaped(str(self.out))}")
        if stopped:
            stop()
        return self._as_json(summary)

    def _head(self, strategy: str, seed: int) -> None:
        self.progress.head(f"{len(self.rows) + 1} of {self.total}: {strategy}, seed {seed}")

    def _summary(self) -> dict[str, Any]:
        from backend.simulation_summary import summarise

        return summarise(self.rows, self.simulation.plan.strategies, self.target)

    def _write(self) -> None:
        from backend.experiment_page import write_page
        from backend.machine import machine_name
        from backend.simulate_page import PageText, simulation_page

        data, plan = self.simulation.data, self.simulation.plan
        left = self.total - len(self.rows)
        changes = [
            (plan.start, f"{plan.start} labels to start with"),
            (plan.batch, f"retrained every {plan.batch} labels"),
            (plan.imbalance > 1, f"imbalance {plan.imbalance:g}:1"),
            (plan.label_noise, f"{100 * plan.label_noise:g} % of labels wrong"),
            (plan.finetune_at, f"fine-tuned at {', '.join(map(str, plan.finetune_at))}"),
            (left, f"{left} runs are not done yet"),
        ]
        parts = [
            self.simulation.backbone.identity,
            f"{len(self.simulation.projects[plan.seeds[0]].images):,} images to label",
            f"{len(self.simulation.test):,} test images",
            f"{len(data.classes)} classes",
            f"{len(plan.seeds)} seeds from {plan.seeds[0]} on",
            *(said for asked, said in changes if asked),
        ]
        text = PageText(f"Labelling replayed on {data.name}", ", ".join(parts), machine_name())
        write_page(self.out, simulation_page(text, self._summary()))

    def _as_json(self, summary: dict[str, Any]) -> dict[str, Any]:
        simulation, plan = self.simulation, self.simulation.plan
        return {
            "data": simulation.data.name,
            "backbone": simulation.backbone.name,
            "runs": [
                {name: row[name] for name in ("strategy", "seed", "curve")} for row in self.rows
            ],
            "summary": summary,
            "input_size": simulation.backbone.input_size,
            "classes": list(simulation.data.classes),
            "pool": {seed: len(project.images) for seed, project in simulation.projects.items()},
            "test": len(simulation.test),
            "left_out": [{"image": image, "why": why} for image, why in simulation.left_out],
            "batch": plan.batch,
            "start": plan.start,
            "imbalance": plan.imbalance,
            "label_noise": plan.label_noise,
            "finetune_at": list(plan.finetune_at),
            "page": str(self.out),
            "results": str(self.results.path),
        }
