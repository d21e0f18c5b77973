"""Pictures that a pretrained network tells apart badly and learns to tell apart in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from backend.demo import single_choice_config
from tests.e2e.digits import Digits
from tests.e2e.label_studio_person import Json, choice_results
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TiebreakProcesses, labels_learned

SLANTS = ("flat", "rising", "falling")
SIDE = 32
PICTURES = 240


class Stripes(Digits):
    """Noisy stripes of three slants as local files of one Label Studio."""

    def __init__(self, label_studio: LabelStudioServer, folder: Path) -> None:
        super().__init__(label_studio, write_stripes(folder))
        self.folder = label_studio.files / "stripes"
        self._truth = np.array([SLANTS[n % 3] for n in range(PICTURES)])

    def create_project(self, title: str, label_config: str = "") -> int:
        """Number of a new project that may show the stripes; it has no tasks yet."""
        return super().create_project(title, label_config or single_choice_config(SLANTS))

    def labelled(self, numbers: Iterable[int]) -> list[Json]:
        """Tasks to import that somebody has labelled as what they show."""
        return [
            {**task, "annotations": [{"result": choice_results(label=self.truth(task))}]}
            for task in self.tasks(numbers)
        ]

    def teach(
        self,
        tiebreak: TiebreakProcesses,
        project: int,
        *,
        labelled: int,
        waiting: int,
        seconds: float,
    ) -> None:
        """Import so many labelled and unlabelled stripes, connect, and wait until all is learned.

        Each of the two waits is for ``seconds`` at most.
        """
        self.add(project, labelled, waiting)
        tiebreak.connect(project)
        tiebreak.wait(project, lambda status: labels_learned(status) == labelled, seconds)
        tiebreak.settle(project, seconds)

    def add(self, project: int, labelled: int, waiting: int) -> None:
        """Import the first stripes with labels, and those that follow them without."""
        numbers = range(labelled + waiting)
        found = [*self.labelled(numbers[:labelled]), *self.tasks(numbers[labelled:])]
        self.label_studio.admin.import_tasks(project, found)


def write_stripes(folder: Path) -> Path:
    """Write the pictures, each from its own seed; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(PICTURES):
        generator = np.random.default_rng(number)
        angle = (number % 3) * np.pi / 3
        along = x * np.cos(angle) + y * np.sin(angle)
        wave = 50 * np.sin(0.8 * along + generator.uniform(0, 6))
        pixels = 128 + wave[..., None] + generator.normal(0, 60, (SIDE, SIDE, 3))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        image.save(folder / f"{number:04d}.png")
    return folder
