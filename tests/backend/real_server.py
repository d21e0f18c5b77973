"""The real ``tiebreak serve`` in a process of its own, with one project that has learned."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import torch
import torchvision
from PIL import Image

from backend.embedding_rows import to_bytes
from backend.engine import LocalEngine
from backend.settings import Settings
from backend.store import Store
from backend.tables import Embedding, ImageSource
from backend.task_rows import source_key
from tests.backend.conftest import Tables
from tests.backend.saved_versions import save_version
from tests.tiebreak_process import TiebreakServer

SECONDS = 120.0
PASSWORD = "planted-password-of-the-tests"
API_TOKEN = "planted-token-of-the-tests"
WEBHOOK_SECRET = "planted-webhook-secret-of-the-tests"
LABEL_STUDIO_TOKEN = "planted-label-studio-token-of-the-tests"
SECRETS = (PASSWORD, API_TOKEN, WEBHOOK_SECRET, LABEL_STUDIO_TOKEN)
LEARNED_TASKS = 6
WORKERS = 2
SETTINGS = {
    "LABEL_STUDIO_API_KEY": LABEL_STUDIO_TOKEN,
    "TIEBREAK_BACKBONE": "mobilenet_v3_small",
    "TIEBREAK_INPUT_SIZE": "32",
    "TIEBREAK_PREDICT_SECONDS": "5",
    "TIEBREAK_IMAGE_TIMEOUT": "1",
    "TIEBREAK_MAX_REQUEST_BYTES": "1000000",
    "TIEBREAK_PASSWORD": PASSWORD,
    "TIEBREAK_API_TOKEN": API_TOKEN,
    "TIEBREAK_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "TIEBREAK_REQUESTS_PER_MINUTE": "10000000",
    "TIEBREAK_LOG_FORMAT": "json",
    "TIEBREAK_WORKERS": str(WORKERS),
    "OMP_NUM_THREADS": "1",
}


def write_weights(folder: Path) -> None:
    """Random weights of the smallest network."""
    (folder / "weights").mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        state = torchvision.models.get_model("mobilenet_v3_small", weights=None).state_dict()
    torch.save(state, folder / "weights" / "mobilenet_v3_small.pth")


def prepare(folder: Path) -> None:
    """Write weights, and a project 1 whose v1 has learned from six embedded images."""
    write_weights(folder)
    settings = Settings(
        data_dir=folder / "data",
        weights_dir=folder / "weights",
        backbone="mobilenet_v3_small",
        input_size=32,
    )
    store = Store(settings.database_address)
    store.migrate()
    tables, engine = Tables(store), LocalEngine(settings)
    images = [Image.new("RGB", (32, 32), (40 * n, 9, 9)) for n in range(LEARNED_TASKS)]
    for task, vector in enumerate(engine.embed(images), 1):
        tables.task(task, vector)
        digest = hashlib.sha256(str(task).encode()).hexdigest()
        with store.write() as session:
            row = Embedding(digest=digest, backbone=engine.backbone, vector=to_bytes(vector))
            session.merge(row)
            session.merge(ImageSource(source=source_key(f"/data/{task}.png"), digest=digest))
    weights = np.random.default_rng(0).normal(size=(vector.shape[0], 3)).astype(np.float32)
    save_version(tables, settings, 1, backbone=engine.backbone, weights=weights)
    store.close()


def data_uri(colour: tuple[int, int, int]) -> str:
    """A small picture of one colour in an address."""
    import base64

    buffer = BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class RealServer(TiebreakServer):
    """A server that fetches from nowhere, and what it has logged."""

    def __init__(self, folder: Path, **others: str) -> None:
        weights = str(folder / "weights")
        super().__init__(folder, **{**SETTINGS, "TIEBREAK_WEIGHTS_DIR": weights, **others})
        self.auth = ("tiebreak", PASSWORD)
        self.client = httpx.Client(
            base_url=self.url, auth=self.auth, timeout=SECONDS, trust_env=False
        )

    def alive(self) -> bool:
        """Whether it answers, and no worker of it has died."""
        answers = self.client.get("/health").status_code == 200
        return answers and self.said().count("Booting worker") == WORKERS

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.client.close()
        return super().stop()


@contextlib.contextmanager
def learned_server(folder: Path) -> Iterator[RealServer]:
    """A server whose project 1 has learned, for the length of the block."""
    prepare(folder)
    server = RealServer(folder).start()
    try:
        yield server
    finally:
        server.stop()
