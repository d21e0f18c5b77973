"""`/predict` of one known image while a trainer works, against a backend that runs the network.

    python -m benchmarks.predict_latency [--requests 2000] [--usual 30] [--tasks 2000]
        [--workers 2] [--idle] [--json]

A real server, of gunicorn, with 2,000 known images in an order of the queue, asked about one after
the other on a kept connection, as fast as it answers. Meanwhile a process fits heads on 5,000
embeddings of 1,280 numbers without a pause, as a trainer never does (``--idle``: nothing runs).

*usual* is what the examples of Label Studio's own library do on each request, without the request:
the network's weights are read from a file, a JPEG of 1600 × 1200 is decoded whole by Pillow,
scaled, and sent through an eager fp32 MobileNetV2 of torch. It is timed between the requests, so
that both sides meet the same load.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import torch
import torchvision
from PIL import Image

from backend.orders import pack_places
from backend.tables import Order
from benchmarks.report import report, say
from tests.backend.served_project import ServedProject, ServerProcess

AT_WORK = """
import numpy as np
from model.head import fit_head
generator = np.random.default_rng(0)
targets = np.arange(5000) % 10
rows = generator.normal(0, 0.3, (10, 1280))[targets] + generator.normal(0, 1, (5000, 1280))
while True:
    fit_head(rows, targets, classes=list("abcdefghij"), multiple=False, seed=0)
"""
TURNS = 10


def write_order(project: ServedProject, tasks: int) -> None:
    """An order of the queue with a place for every task, as a trainer has written it."""
    with project.store.write() as session:
        session.add(
            Order(
                project_id=1,
                version=1,
                number=0,
                created_at=0.0,
                reason="",
                strategy="margin",
                audit_share=0.1,
                pace=0.1,
                known=tasks,
                picks=[],
                places=pack_places(
                    range(1, tasks + 1), [n / (tasks + 2) for n in range(1, tasks + 1)]
                ),
                scale={},
            )
        )


class Usual:
    """Weights in a file, a picture in bytes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "weights.pth"
        torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), self.path)
        noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        buffer = BytesIO()
        Image.fromarray(noise).resize((1600, 1200)).save(buffer, "JPEG", quality=90)
        self.jpeg = buffer.getvalue()

    def answer(self) -> None:
        """One prediction."""
        network = torchvision.models.mobilenet_v2(weights=None)
        network.load_state_dict(torch.load(self.path, weights_only=True))
        network.eval()
        picture = Image.open(BytesIO(self.jpeg)).convert("RGB").resize((224, 224))
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            network(pixels).softmax(dim=1)


def asked(client: httpx.Client, project: ServedProject, task: int) -> float:
    """Seconds of one prediction."""
    body = project.body([task])
    began = time.perf_counter()
    answer = client.post("/predict", json=body)
    seconds = time.perf_counter() - began
    assert answer.status_code == 200, answer.text
    [entry] = answer.json()["results"]
    assert entry["model_version"] == "v1"
    return seconds


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Percentiles."""
    return {f"p{p}": round(1000 * float(np.percentile(seconds, p)), 2) for p in (50, 95, 99)} | {
        "slowest": round(1000 * max(seconds), 2),
        "count": len(seconds),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--usual", type=int, default=30)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--json", action="store_true", help="what it prints anyway")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = ServedProject(folder, tasks=given.tasks, versions=1)
        write_order(project, given.tasks)
        usual = Usual(folder)
        server = ServerProcess(project, {"TIEBREAK_WORKERS": str(given.workers)}).start()
        trainer = None if given.idle else subprocess.Popen([sys.executable, "-c", AT_WORK])
        known: list[float] = []
        others: list[float] = []
        try:
            with server.client() as client:
                for task in range(1, 51):
                    asked(client, project, task)
                usual.answer()
                time.sleep(0 if given.idle else 5)
                for turn in range(TURNS):
                    for n in range(given.requests // TURNS):
                        task = 1 + (turn * given.requests // TURNS + n) % given.tasks
                        known.append(asked(client, project, task))
                    for _ in range(max(1, given.usual // TURNS)):
                        began = time.perf_counter()
                        usual.answer()
                        others.append(time.perf_counter() - began)
                    say(f"{len(known)} requests: {milliseconds(known)}")
            assert trainer is None or trainer.poll() is None
        finally:
            if trainer is not None:
                trainer.kill()
                trainer.wait()
            server.close()
            project.close()
    report(
        {
            "trainer": "idle" if given.idle else "fitting heads",
            "workers": given.workers,
            "milliseconds": {"tiebreak": milliseconds(known), "usual": milliseconds(others)},
        }
    )


if __name__ == "__main__":
    main()
