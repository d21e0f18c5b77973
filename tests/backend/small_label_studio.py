"""A real server on the loopback address that keeps one project as Label Studio does."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend.labelstudio import LabelStudio
from tests.serving import serving


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: SmallLabelStudio

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        studio = self.server
        if address.path.startswith("/data/"):
            self._answer(studio.pictures[int(address.path.rpartition("/")[2])], "image/png")
        elif address.path.endswith("/model-versions/"):
            self._json(Counter(p["model_version"] for p in studio.predictions))
        elif address.path == "/api/predictions/":
            task = int(parse_qs(address.query)["task"][0])
            self._json([p for p in studio.predictions if p["task"] == task])
        elif address.path == "/api/webhooks/":
            self._json(studio.webhooks)
        elif address.path.startswith("/api/projects"):
            self._json(studio.project | {"task_number": len(studio.tasks)})
        else:
            rows = studio.rows(parse_qs(address.query).get("query", ["{}"])[0])
            self._json({"tasks": rows, "total": len(rows)})

    def do_POST(self) -> None:
        if self.path.endswith("/annotations/"):
            self._json(self.server.submit(int(self.path.split("/")[3]), self._body()))
            return
        predictions = self._body()
        for prediction in predictions:
            prediction["id"] = next(self.server.numbers)
        self.server.predictions += predictions
        self._json({"created": len(predictions)})

    def do_DELETE(self) -> None:
        number = int(self.path.strip("/").rpartition("/")[2])
        if self.path.startswith("/api/annotations/"):
            self.server.withdraw(number)
            self._json({})
            return
        self.server.predictions = [p for p in self.server.predictions if p["id"] != number]
        self._json({})

    def do_PATCH(self) -> None:
        changed = self.server.project
        if self.path.startswith("/api/webhooks/"):
            number = int(self.path.strip("/").rpartition("/")[2])
            [changed] = [hook for hook in self.server.webhooks if hook["id"] == number]
        changed |= self._body()
        self._json(changed)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _json(self, content: object) -> None:
        self._answer(json.dumps(content).encode(), "application/json")

    def _answer(self, body: bytes, kind: str) -> None:
        self.server.before_answer(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class SmallLabelStudio(ThreadingHTTPServer):
    """Project 1 with tasks of one-coloured pictures; of the filters it knows that on the time."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.url = f"http://{host}:{self.server_address[1]}"
        self.project: dict[str, Any] = {"id": 1, "title": "Test", "label_config": "<View/>"}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.pictures: dict[int, bytes] = {}
        self.predictions: list[dict[str, Any]] = []
        self.webhooks: list[dict[str, Any]] = []
        self.numbers = itertools.count(1)
        self.before_answer: Callable[[str], None] = lambda _: None
        """Told of each request when its answer is ready; may keep it back."""
        self._clock = 0

    def add_task(self, task: int, colour: tuple[int, int, int]) -> None:
        """A task whose picture has that colour."""
        self.add_picture(task, Image.new("RGB", (8, 8), colour))

    def add_picture(self, task: int, picture: Image.Image) -> None:
        """A task with that picture."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        self.pictures[task] = buffer.getvalue()
        self.tasks[task] = {"id": task, "data": {"image": f"/data/{task}"}, "annotations": []}
        self._touch(task)

    def annotate(self, task: int, **choices: Sequence[str]) -> None:
        """Replace what is submitted for a task: ``label=["cat"]``."""
        result = [
            {
                "id": f"{task}{name}",
                "from_name": name,
                "to_name": "image",
                "type": "choices",
                "value": {"choices": list(picked)},
            }
            for name, picked in choices.items()
        ]
        annotation = {
            "id": task,
            "result": result,
            "was_cancelled": False,
            "completed_by": 1,
            "created_at": datetime.now(UTC).isoformat(),
        }
        for before in self.tasks[task]["annotations"]:
            annotation["created_at"] = before["created_at"]
        self.tasks[task]["annotations"] = [annotation]
        self._touch(task)

    def submit(self, task: int, annotation: dict[str, Any]) -> dict[str, Any]:
        """One more annotation of a task, as somebody sends it."""
        made = annotation | {"id": next(self.numbers) + 10_000, "completed_by": 1}
        self.tasks[task]["annotations"].append(made)
        self._touch(task)
        return made

    def withdraw(self, number: int) -> None:
        """Delete the annotation of that number."""
        for task in self.tasks.values():
            task["annotations"] = [a for a in task["annotations"] if a["id"] != number]

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The tasks that a query of the Data Manager asks for, as it lists them."""
        filters = json.loads(query).get("filters", {}).get("items", [])
        since = [f["value"] for f in filters if f["filter"] == "filter:tasks:updated_at"]
        return [
            task
            | {
                "is_labeled": bool(task["annotations"]),
                "total_annotations": len(task["annotations"]),
                "predictions_model_versions": ",".join(
                    p["model_version"] for p in self.predictions if p["task"] == number
                ),
            }
            for number, task in sorted(self.tasks.items())
            if not since or task["updated_at"] >= min(since)
        ]

    def served(self) -> dict[int, dict[str, Any]]:
        """Task → its prediction of the version that Label Studio orders by."""
        version = self.project.get("model_version")
        return {p["task"]: p for p in self.predictions if p["model_version"] == version}

    def _touch(self, task: int) -> None:
        # Minutes apart, so that a look at what changed lately finds the last ones alone.
        self._clock += 1
        hour, minute = divmod(self._clock, 60)
        self.tasks[task]["updated_at"] = f"2026-01-{1 + hour:02d}T00:{minute:02d}:00.000000Z"


class ColourEngine:
    """Embeds a picture as its mean colour, sixteen numbers wide, and counts the pictures."""

    loaded = True
    backbone = "mean-colour"

    def __init__(self) -> None:
        self.embedded = 0

    def can_embed(self, backbone: str) -> bool:
        return backbone == self.backbone

    def embed(self, images: Sequence[Image.Image], backbone: str | None = None) -> NDArray[Any]:
        """(n, 16) float16."""
        self.embedded += len(images)
        colours = [np.asarray(image).reshape(-1, 3).mean(axis=0) / 255 for image in images]
        return np.pad(np.array(colours), ((0, 0), (0, 13))).astype(np.float16)


class PatternEngine(ColourEngine):
    """Embeds a picture as the brightness of four times four fields, from -1 to 1."""

    backbone = "brightness"

    def embed(self, images: Sequence[Image.Image], backbone: str | None = None) -> NDArray[Any]:
        """(n, 16) float16."""
        self.embedded += len(images)
        small = [
            np.asarray(image.convert("L").resize((4, 4), Image.Resampling.BOX)) for image in images
        ]
        return np.array([fields.reshape(-1) / 127.5 - 1 for fields in small], dtype=np.float16)


@pytest.fixture
def small_label_studio() -> Iterator[SmallLabelStudio]:
    """A Label Studio with one project and no tasks."""
    with serving(SmallLabelStudio()) as server:
        yield server


@pytest.fixture
def small_client(small_label_studio: SmallLabelStudio) -> Iterator[LabelStudio]:
    """Tiebreak's own client of it."""
    with LabelStudio(small_label_studio.url, "0" * 40) as made:
        yield made
