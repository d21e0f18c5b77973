"""One call of ``tiebreak tune``: its study, its table and its settings file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backend.command import errors, escaped, print_table
from backend.compare_backbones import load_network
from backend.errors import SetupError
from backend.experiment_options import stop
from backend.experiment_progress import ExperimentProgress
from backend.labelled_data import Drawn, LabelledData
from backend.settings import Settings
from backend.tune import Judged, Search, finished, held_rows, open_study, ranked, run_study
from backend.tune_table import gain_sentence, trial_line, trials_table
from backend.winner_file import write_winner
from model.backbones import Backbone, check_backbone, default_input_size


@dataclass
class TuneRun:
    """The images, what is searched, and where the trials and the winner are kept."""

    data: LabelledData
    drawn: Drawn
    search: Search
    settings: Settings
    storage: Path
    out: Path
    backbone: Backbone = field(init=False)
    trials: list[Judged] = field(default_factory=list)

    def start(self, name: str, input_size: int | None, progress: ExperimentProgress) -> None:
        """Load the network that is tuned."""
        side = input_size or default_input_size(self.drawn.shorter_side)
        check_backbone(name, side)
        seed = self.search.defaults.seed
        self.backbone = load_network(name, side, seed, self.settings, progress.tell)

    def go_on(self, progress: ExperimentProgress) -> bool:
        """Do the trials that are missing; whether somebody pressed ctrl-c."""
        total = self.search.trials
        with open_study(self.storage, self.data, self.drawn, self.backbone, self.search) as study:
            self.trials = finished(study)
            if self.trials:
                progress.say(f"{len(self.trials)} of {total} trials are done already")
            done = run_study(
                study,
                self.storage,
                self.data,
                self.drawn,
                self.backbone,
                self.search,
                on_trial=lambda number: progress.head(f"trial {number} of {total}"),
                tell=progress.tell,
            )
            try:
                for trial in done:
                    self.trials.append(trial)
                    progress.say(trial_line(trial, total))
            except KeyboardInterrupt:
                return True
        return False

    def report(self, stopped: bool, as_json: bool) -> dict[str, Any]:
        """Write the winner and print the table; the JSON that the command prints otherwise."""
        order = ranked(self.trials)
        gained = gain_sentence(self.trials, self._held)
        if order:
            self._write(order[0], gained)
            if not as_json:
                print_table(trials_table(self.trials))
                print(gained)
                errors.print(f"The winner: {escaped(str(self.out))}")
        if stopped:
            stop()
        if not order:
            raise SetupError("No trial came to its end.", mend=self.trials[0].why)
        defaults = next((trial for trial in order if trial.defaults), None)
        return {
            "data": self.data.name,
            "backbone": self.backbone.identity,
            "judged_on": self._held,
            "winner": asdict(order[0]),
            "defaults": asdict(defaults) if defaults else None,
            "sentence": gained,
            "settings": str(self.out),
            "storage": str(self.storage),
            "trials": [asdict(trial) for trial in self.trials],
        }

    @property
    def _held(self) -> int:
        return len(held_rows(self.drawn, self.search)[1])

    def _write(self, best: Judged, gained: str) -> None:
        fixed: dict[str, Any] = {
            "backbone": self.backbone.name,
            "input_size": self.backbone.input_size,
            "augmentation": self.search.defaults.augmentation,
        }
        comments = [
            f"Found by tiebreak tune on {self.data.name}: {len(self.drawn.train)} labels, "
            f"{len(self.trials)} trials.",
            gained,
            "Load it in a shell: set -a; . ./" + self.out.name + "; set +a",
        ]
        write_winner(self.out, best.options, fixed, comments)
