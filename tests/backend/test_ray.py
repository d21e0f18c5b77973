"""A real Ray cluster of a head and two workers: the same results as here, though workers die."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select

from backend.embedding_rows import from_bytes
from backend.engine import LocalEngine, make_engine
from backend.errors import EngineError, SettingsError
from backend.finetune_files import PROGRESS, Progress, read
from backend.images import ImageFetcher
from backend.pool import embed_chunk
from backend.ray_embedding import Copies
from backend.ray_engine import RayEngine
from backend.ray_training import Cluster, finetune_on_ray
from backend.settings import Settings, load_settings
from backend.store import Store
from backend.tables import Embedding, ImageSource
from backend.working_copies import WorkingCopies
from model.backbones import load_backbone
from model.control_labels import ControlLabels
from model.finetune import FineTuneOptions, finetune
from tests.backend.conftest import Tables
from tests.backend.loop_project import config
from tests.backend.peers import shared_decoders
from tests.backend.ray_call import in_a_process
from tests.backend.ray_cluster import RayCluster, ray_cluster

__all__ = ["ray_cluster"]

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.timeout(900)

IMAGES = 300
SIDE = 40


def picture(number: int) -> bytes:
    """A PNG of noise of its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((SIDE + 8, SIDE), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def far(settings: Settings, seeded_weights: Path, ray_cluster: RayCluster) -> Settings:
    """Settings of a trainer whose engine is the cluster."""
    return settings.model_copy(
        update={
            "backbone": "mobilenet_v3_small",
            "weights_dir": seeded_weights,
            "input_size": 32,
            "engine": "ray",
            "ray_address": ray_cluster.address,
        }
    )


def keep(settings: Settings, count: int) -> tuple[WorkingCopies, list[str]]:
    copies = WorkingCopies(settings.working_copies, settings.working_copy_side)
    return copies, [copies.put(picture(number)) for number in range(count)]


def expected(settings: Settings, copies: WorkingCopies, digests: list[str]) -> NDArray[np.float16]:
    return LocalEngine(settings).embed([copies.open(digest) for digest in digests])


def test_a_fine_tune_of_two_workers_is_that_of_one_process(
    far: Settings, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    """One of the workers is killed on the way."""
    _, digests = keep(far, 40)
    backbone = load_backbone(
        far.backbone,
        input_size=far.input_size,
        weights_dir=far.weights_dir,
        cache_dir=far.weights_cache,
    )
    truth = np.arange(40) % 2
    labels = [ControlLabels("kind", ("a", "b"), False, truth, np.ones(40, dtype=bool))]
    options = FineTuneOptions(
        epochs=4, patience=4, batch_size=17, backbone_rate=1e-5, head_rate=1e-4,
        augmentation="photos", seed=3,
    )  # fmt: skip
    folder = tmp_path / "job"
    folder.mkdir()
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 600
        while not killed and time.monotonic() < deadline:
            at = read(folder, PROGRESS, Progress)
            if at is not None and at.epoch >= 2:
                victim = ray_cluster.workers("RayTrainWorker")[-1]
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    copies = Copies(folder=far.working_copies, side=far.working_copy_side)
    found = in_a_process(
        finetune_on_ray,
        (Cluster(ray_cluster.address, 2), folder, backbone, copies, digests, labels, options),
    )
    killer.join()
    assert killed
    kept = WorkingCopies(folder=far.working_copies, side=far.working_copy_side)
    alone = finetune(backbone, lambda row: kept.open(digests[row]), labels, options, device="cpu")
    assert [at.epoch for at in found.epochs] == [at.epoch for at in alone.epochs]
    for ours, theirs in zip(alone.epochs, found.epochs, strict=True):
        # Processors with bfloat16 compute with three digits.
        assert abs(ours.loss - theirs.loss) < 5e-3
        assert abs((ours.training_loss or 0) - (theirs.training_loss or 0)) < 5e-3
    assert np.array_equal(found.trained, alone.trained)


def test_embeddings_are_those_of_this_process(far: Settings) -> None:
    copies, digests = keep(far, 70)
    copies.path(digests[5]).unlink()
    copies.path(digests[6]).write_bytes(b"not an image")
    engine = make_engine(far)
    assert isinstance(engine, RayEngine)
    found: dict[str, NDArray[np.float16]] = {}
    problems: dict[str, str] = {}
    for part in engine.embed_copies(digests, engine.backbone):
        found |= dict(zip(part.digests, part.vectors, strict=True))
        problems |= part.problems
    engine.close()
    assert set(found) == set(digests)
    assert set(problems) == {digests[5], digests[6]}
    whole = [digest for digest in digests if digest not in problems]
    ours = expected(far, copies, whole).astype(np.float64)
    theirs = np.stack([found[digest] for digest in whole]).astype(np.float64)
    assert np.abs(ours - theirs).max() <= 0.01 * np.abs(ours).max()


def test_a_node_that_dies_loses_no_image(
    far: Settings, store: Store, ray_cluster: RayCluster
) -> None:
    """The last test of the cluster: one of its nodes is gone afterwards."""

    tables = Tables(store, config("a", "b"))
    for task in range(1, IMAGES + 1):
        tables.task(task, image="data:image/png;base64," + base64.b64encode(picture(task)).decode())
    engine = make_engine(far)
    fetcher = ImageFetcher(far, None, decoders=shared_decoders())
    copies = WorkingCopies(folder=far.working_copies, side=far.working_copy_side)
    seen = 0

    def progress() -> None:
        nonlocal seen
        seen += 1
        if seen == IMAGES + 1:  # each was fetched, and the first block is embedded
            ray_cluster.lose(1)

    done = embed_chunk(
        store, fetcher, copies, engine, 1, labelled_only=False, workers=2, progress=progress
    )
    assert done == IMAGES
    assert seen > IMAGES + 1
    with store.read() as session:
        rows = session.execute(select(Embedding.digest, Embedding.vector)).all()
        digests = set(session.scalars(select(ImageSource.digest)))
    assert len(rows) == IMAGES
    assert {digest for digest, _ in rows} == digests
    ours = expected(far, copies, [digest for digest, _ in rows]).astype(np.float64)
    theirs = from_bytes([vector for _, vector in rows]).astype(np.float64)
    assert np.abs(ours - theirs).max() <= 0.01 * np.abs(ours).max()
    assert embed_chunk(store, fetcher, copies, engine, 1, labelled_only=False, workers=2) == 0
    engine.close()
    fetcher.close()


def test_without_the_cluster_nothing_is_embedded_here(
    settings: Settings, seeded_weights: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = {
        "backbone": "mobilenet_v3_small",
        "weights_dir": seeded_weights,
        "input_size": 32,
        "engine": "ray",
        "ray_address": f"127.0.0.1:{port}",
    }
    lonely = settings.model_copy(update=changes)
    _, digests = keep(lonely, 3)
    engine = RayEngine(lonely)
    with pytest.raises(EngineError, match=r"does not answer.*Start its head"):
        list(engine.embed_copies(digests, engine.backbone))
    engine.close()


def test_ray_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEBREAK_ENGINE", "ray")
    with pytest.raises(SettingsError, match=r"RAY_ADDRESS=.*TIEBREAK_ENGINE=ray needs one"):
        load_settings()
    monkeypatch.setenv("TIEBREAK_RAY_ADDRESS", "ray.example")
    with pytest.raises(SettingsError, match=r"RAY_ADDRESS='ray.example': .*host and a port"):
        load_settings()
