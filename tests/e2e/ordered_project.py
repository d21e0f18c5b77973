"""Projects in Label Studio whose order is made up, as Tiebreak would set it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from backend.connect import NEED_LABELS_ONLY, QUEUE_TITLE
from backend.labelstudio import LabelStudio
from backend.push import SAMPLING
from tests.e2e.conftest import SINGLE_CHOICE
from tests.e2e.label_studio_person import Json
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.team import Order

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNo"
    "AAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True)
class OrderedProject:
    """A project with tasks of one grey pixel; ``tab`` is the data of its queue's tab."""

    studio: LabelStudioServer
    number: int
    tasks: list[int]
    tab: Json

    @classmethod
    def make(
        cls, studio: LabelStudioServer, title: str, count: int, **fields: object
    ) -> OrderedProject:
        """A new project with that many tasks and no order yet; ``fields`` are Label Studio's."""
        number = studio.admin.create_project(title, SINGLE_CHOICE, **fields)
        tasks = studio.admin.import_tasks(number, [{"data": {"image": PIXEL}}] * count)
        with LabelStudio(studio.url, studio.token) as client:
            tab = client.save_view(number, QUEUE_TITLE, filters=[NEED_LABELS_ONLY])
        return cls(studio, number, tasks, tab.data)

    def reorder(self, version: str, seed: int) -> Order:
        """Push a version with scores drawn for all tasks, make Label Studio order by it, and give
        the scores."""
        places = list(self.tasks)
        random.Random(seed).shuffle(places)
        order = {task: (place + 1) / (len(places) + 1) for place, task in enumerate(places)}
        predictions = [
            {"task": task, "model_version": version, "score": score, "result": []}
            for task, score in order.items()
        ]
        with LabelStudio(self.studio.url, self.studio.token) as client:
            client.import_predictions(self.number, predictions)
            client.update_project(
                self.number, model_version=version, sampling=SAMPLING, show_collab_predictions=True
            )
        return order
