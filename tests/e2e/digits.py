"""Projects of handwritten digits in Label Studio, and people who know what the digits are."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from sklearn.datasets import load_digits

from backend.demo import DIGIT_CLASSES, single_choice_config
from backend.labelstudio import LabelStudio
from tests.callers import LOG_IN
from tests.e2e.label_studio_person import Json, Person
from tests.e2e.label_studio_server import LabelStudioServer

DIGIT_CONFIG = single_choice_config(DIGIT_CLASSES)
_NUMBER = re.compile(r"(\d{4})\.png")


class Digits:
    """The digits as local files of one Label Studio; digit n is file ``n.png``, four places."""

    def __init__(self, label_studio: LabelStudioServer, files: Path) -> None:
        self.label_studio = label_studio
        self.folder = label_studio.files / "digits"
        self._files = files
        self._truth = load_digits().target

    def create_project(self, title: str, label_config: str = DIGIT_CONFIG) -> int:
        """Number of a new project that may show the digits; it has no tasks yet."""
        project = self.label_studio.admin.create_project(title, label_config)
        self.folder.mkdir(exist_ok=True)
        with LabelStudio(self.label_studio.url, self.label_studio.token) as client:
            client.open_local_folder(project, self.folder)
        return project

    def tasks(self, numbers: Iterable[int]) -> list[Json]:
        """Tasks to import, for the digits of those numbers."""
        return [{"data": {"image": self.uri(number)}} for number in numbers]

    def add_tasks(self, project: int, numbers: Iterable[int]) -> list[int]:
        """Import the digits of those numbers; the numbers of their tasks."""
        return self.label_studio.admin.import_tasks(project, self.tasks(numbers))

    def uri(self, number: int) -> str:
        """Address under which Label Studio serves a digit."""
        target = self.folder / f"{number:04d}.png"
        if not target.exists():
            shutil.copyfile(self._files / target.name, target)
        return f"/data/local-files/?d={self.folder.name}/{target.name}"

    def truth(self, task: Json) -> str:
        """What the digit in a task is."""
        found = _NUMBER.search(task["data"]["image"])
        assert found, task
        return str(self._truth[int(found[1])])

    def label_next(self, person: Person, project: int, count: int) -> list[int]:
        """Let a person label what Label Studio gives them; the numbers of those tasks."""
        done = []
        for _ in range(count):
            task = person.next_task(project)
            assert task is not None, "Label Studio has no more tasks"
            person.submit(task["id"], label=self.truth(task))
            done.append(int(task["id"]))
        return done

    def label(self, person: Person, project: int, count: int) -> list[int]:
        """Let a person label the first unlabelled tasks by number; the numbers of those tasks."""
        unlabelled = [t for t in all_tasks(person, project) if not t["is_labeled"]][:count]
        for task in unlabelled:
            person.submit(task["id"], label=self.truth(task))
        return [int(task["id"]) for task in unlabelled]


def all_tasks(person: Person, project: int) -> list[Json]:
    """Every task of a project with its predictions, by number."""
    found: list[Json] = []
    pages = {"page_size": 500, "fields": "all", "resolve_uri": "false"}
    while True:
        page = len(found) // 500 + 1
        answer = person.get("/api/tasks", project=project, page=page, **pages)
        found += answer["tasks"]
        if len(found) >= answer["total"]:
            return sorted(found, key=lambda task: int(task["id"]))


def predictions_of(person: Person, project: int, order: str) -> dict[int, list[Json]]:
    """Task number → its predictions of an order, as Label Studio holds them."""
    found: dict[int, list[Json]] = {}
    for prediction in person.get("/api/predictions/", project=project):
        if prediction["model_version"] == order:
            found.setdefault(int(prediction["task"]), []).append(prediction)
    return found


def choices_of(prediction: Json) -> list[str]:
    """All choices that a prediction ticks."""
    return [choice for item in prediction["result"] for choice in item["value"]["choices"]]


def connect_by_hand(
    person: Person, project: int, url: str, log_in: tuple[str, str] | None = LOG_IN
) -> int:
    """Connect a backend as Settings → Model does, with user and password; the backend's number."""
    body = {"project": project, "url": url, "title": "My model", "auth_method": "NONE"}
    if log_in:
        basic = {"basic_auth_user": log_in[0], "basic_auth_pass": log_in[1]}
        body |= {"auth_method": "BASIC_AUTH", **basic}
    return int(person.post("/api/ml/", body)["id"])


def assert_all_scored(
    person: Person, project: int, status: Json, *, once: bool = True
) -> dict[int, float]:
    """Label Studio goes by the order of what serves, and every unlabelled task has its place.

    ``once``: has it exactly once. Returns the scores of the unlabelled tasks.
    """
    remote = person.get(f"/api/projects/{project}")
    order = status["order"]
    assert order.partition(".")[0] == status["version"]
    assert remote["model_version"] == order == status["served"]
    assert remote["sampling"] == "Uncertainty sampling"
    held = predictions_of(person, project, order)
    scores = {}
    for task in all_tasks(person, project):
        if not task["is_labeled"]:
            number = len(held.get(task["id"], []))
            assert number == 1 or (number and not once), f"task {task['id']}: {number} {order}"
            scores[task["id"]] = held[task["id"]][0]["score"]
    assert all(isinstance(score, float) and 0 <= score <= 1 for score in scores.values())
    return scores
