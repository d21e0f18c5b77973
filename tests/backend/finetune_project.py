"""A project of handwritten digits whose backbone is fine-tuned for real, in seconds."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sqlalchemy import delete, select

from backend.champion import Champions
from backend.engine import LocalEngine
from backend.finetune_child import FineTuneSlot
from backend.finetune_files import JOB, RESULT, TUNED, Job, Result, job_folder, read, write
from backend.finetunes import JUDGING, TRAINING, UNDER_WAY, newest_fine_tune, want_fine_tune
from backend.finetuning import FineTuning
from backend.groups import group_images
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.pool import embed_chunk
from backend.push import Pace
from backend.settings import Settings
from backend.store import Store
from backend.tables import FineTune, Lease, TrainerProcess, Version
from backend.tools import Tools
from backend.training import TrainingReport, train
from backend.tuned_networks import find_tuned, tuned_folder
from backend.working_copies import WorkingCopies
from model.backbones import load_backbone
from model.tuned import save_network
from tests.backend.conftest import Tables
from tests.backend.peers import shared_decoders

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image">
<Choice value="0"/><Choice value="1"/><Choice value="2"/></Choices></View>"""
SECONDS = 250.0


def make_tools(settings: Settings, store: Store, owner: str) -> Tools:
    """What a trainer of that name works with; nothing of it talks to Label Studio."""
    client = LabelStudio("http://127.0.0.1:9", "0" * 40)
    return Tools(
        settings=settings,
        store=store,
        client=client,
        fetcher=ImageFetcher(settings, client, decoders=shared_decoders()),
        copies=WorkingCopies(settings.working_copies, settings.working_copy_side),
        engine=LocalEngine(settings),
        champions=Champions(store, settings.data_dir),
        leases=Leases(store, owner, 30),
        pace=Pace(),
        slot=FineTuneSlot(),
    )


def _has_ended(row: FineTune) -> bool:
    return row.state not in UNDER_WAY


class FineTuneProject:
    """Project 1 with pictures of three digits, and a trainer that works on it."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self.tables, self.settings, self.store = tables, settings, tables.store
        digits = load_digits(n_class=3)
        self.pictures, self.truth = digits.images, digits.target
        self.digests: dict[int, str] = {}
        self.woken: list[float] = []
        self.begin("first")

    def begin(self, owner: str) -> None:
        """Another trainer takes over from one that is no more."""
        with self.store.write() as session:
            session.execute(delete(Lease))
            session.execute(delete(TrainerProcess))
        self.tools = make_tools(self.settings, self.store, owner)
        self.tools.leases.beat()
        assert self.tools.leases.acquire(1)
        self.steps = FineTuning(self.tools, 1, self.woken.append)

    def end(self) -> None:
        """The trainer goes in good order."""
        self.tools.slot.stop()
        self.tools.leases.give_back()

    def add(self, count: int, *, labelled: int) -> None:
        """Tasks with the next digits, the first of them labelled."""
        first = len(self.digests) + 1
        for task_id in range(first, first + count):
            uri = picture(self.pictures[task_id - 1])
            self.tables.task(task_id, image=uri)
            self.digests[task_id] = self.tools.fetcher.fetch(uri, task_id)
        self.label(range(first, first + labelled))

    def label(self, task_ids: range) -> None:
        """Label tasks as what they show."""
        for task_id in task_ids:
            self.tables.label(task_id, str(self.truth[task_id - 1]))

    def embed(self, backbone: str | None = None) -> None:
        """Embed all images, by default with the original backbone."""
        while embed_chunk(
            self.store,
            self.tools.fetcher,
            self.tools.copies,
            self.tools.engine,
            1,
            labelled_only=False,
            workers=2,
            backbone=backbone,
        ):
            pass
        group_images(self.store, self.tools.leases, 1, self.tools.engine.backbone)

    def learn(self) -> TrainingReport:
        """Heads on all labels, as the reconciler fits them."""
        champion = self.tools.champions.get(1)
        tuned = champion and find_tuned(tuned_folder(self.settings.data_dir), champion.backbone)
        return train(
            self.store,
            self.tools.leases,
            self.settings,
            1,
            self.tools.engine.backbone,
            champion,
            tuned=tuned or None,
        )

    def ask(self) -> int:
        """Ask for a fine-tune."""
        return want_fine_tune(self.store, 1, asked=True)[0]

    def answer(self, *, seed: int = 0, trained: int = 40, **values: Any) -> Result:
        """Write what a child writes that has learned: another network than before, by ``seed``."""
        row = self.row()
        assert row.state == TRAINING
        folder = job_folder(self.settings.data_dir, 1, row.id)
        job = read(folder, JOB, Job)
        assert job is not None
        network = load_backbone(
            job.backbone,
            input_size=job.input_size,
            weights_dir=job.weights_dir,
            cache_dir=job.weights_cache,
        ).network
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for weights in network.parameters():
                weights += 0.05 * weights.std(correction=0) * torch.randn_like(weights)
        result = Result(
            done=True,
            sha256=save_network(folder / TUNED, network),
            trained=tuple(image.digest for image in job.rows[:trained]),
            improved=values.pop("improved", True),
            **values,
        )
        write(folder, RESULT, result)
        return result

    def adopt(self, **values: Any) -> str:
        """Ask for a fine-tune and answer it; the identity of the tuned network."""
        self.ask()
        assert self.steps.tend()
        self.answer(**values)
        return self.go_on(lambda row: row.state == JUDGING).backbone

    def row(self) -> FineTune:
        """The newest fine-tune."""
        with self.store.read() as session:
            row = newest_fine_tune(session, 1)
        assert row is not None
        return row

    def step(self) -> bool:
        """One step of the fine-tune, as the reconciler takes it."""
        self.tools.leases.beat()
        return self.steps.tend() or self.steps.work()

    def go_on(
        self, until: Callable[[FineTune], bool] = lambda row: row.state not in UNDER_WAY
    ) -> FineTune:
        """Step after step until the fine-tune is so; by default until it has ended."""
        deadline = time.monotonic() + SECONDS
        while not until(row := self.row()):
            assert time.monotonic() < deadline, (row.state, row.reason, row.progress)
            if not self.step():
                time.sleep(0.05)
        return row

    def versions(self) -> list[Version]:
        """All versions, the oldest first."""
        with self.store.read() as session:
            return list(session.scalars(select(Version).order_by(Version.number)))


def picture(pixels: Any, side: int = 32) -> str:
    """A digit as a data URI."""
    file = io.BytesIO()
    image = Image.fromarray((15.9 * pixels).astype("uint8"))
    image.resize((side, side)).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def fine_tuned(
    store: Store, settings: Settings, seeded_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FineTuneProject]:
    """60 digits, 48 of them labelled and learned by v1; nothing is held out."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = settings.model_copy(
        update={
            "backbone": "mobilenet_v3_small",
            "weights_dir": seeded_weights,
            "input_size": 32,
            "finetune_epochs": 2,
            "finetune_nice": 1,
            "audit_share": 0.0,
        }
    )
    project = FineTuneProject(Tables(store, CONFIG), small)
    project.add(60, labelled=48)
    project.embed()
    assert project.learn().kept
    yield project
    project.end()
