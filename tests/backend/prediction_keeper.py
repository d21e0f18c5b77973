"""A real server that keeps predictions as Label Studio does, on the loopback address."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backend.labelstudio import LabelStudio
from tests.serving import serving


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: PredictionKeeper

    def do_GET(self) -> None:
        if "/model-versions/" in self.path:
            self._answer(Counter(version for _, version in self.server.held))
            return
        rows = self.server.rows()
        self._answer({"tasks": rows, "total": len(rows)})

    def do_POST(self) -> None:
        predictions = self._body()
        self.server.while_storing()
        self.server.held += [(p["task"], p["model_version"]) for p in predictions]
        self._answer({"created": len(predictions)})

    def do_PATCH(self) -> None:
        self.server.orders_by = self._body()["model_version"]
        self._answer({"id": 1, "title": "Test", "label_config": "<View/>"})

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class PredictionKeeper(ThreadingHTTPServer):
    """``held`` are the predictions as (task, version); ``orders_by`` is what it was told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.held: list[tuple[int, str]] = []
        self.orders_by = ""
        self.while_storing: Callable[[], object] = lambda: None

    def rows(self) -> list[dict[str, Any]]:
        """The tasks with predictions, as the Data Manager lists them."""
        versions: dict[int, list[str]] = {}
        for task, version in self.held:
            versions.setdefault(task, []).append(version)
        return [
            {"id": task, "predictions_model_versions": ",".join(found)}
            for task, found in sorted(versions.items())
        ]


@pytest.fixture
def keeper() -> Iterator[PredictionKeeper]:
    """What keeps predictions as Label Studio does."""
    with serving(PredictionKeeper()) as server:
        yield server


@pytest.fixture
def keeper_client(keeper: PredictionKeeper) -> Iterator[LabelStudio]:
    """Tiebreak's own client of the keeper."""
    with LabelStudio(keeper.url, "0" * 40) as made:
        yield made
