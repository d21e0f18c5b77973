"""What is held after many predictions and trainings is what was held after a few."""

from __future__ import annotations

import os
import sys
import time

import pytest
from sqlalchemy import func, select

from backend.labelstudio import LabelStudio
from backend.payloads import PredictTask
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from benchmarks.processes import Use, use_of
from tests.backend.hostile_batch import HostileBatch
from tests.backend.hostile_image import Hostile, noise, saved
from tests.backend.loop_project import CLASSES
from tests.backend.small_label_studio import SmallLabelStudio

FEW = 3
SOUND = Hostile("sound", lambda: saved(noise(10, 10), "PNG"), size=(10, 10))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_predictions_and_trainings_leave_nothing(
    settings: Settings,
    store: Store,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> None:
    batch = HostileBatch(settings, store, small_label_studio, small_client)
    known = [PredictTask(id=n, data={"image": f"/data/{n}"}) for n in range(1, 11)]
    trained = 1

    def train() -> None:
        nonlocal trained
        trained += 1
        task = trained % 30 + 1
        label = [CLASSES[(task + trained // 30 + 1) % 3]]
        small_label_studio.annotate(task, label=label)
        with store.write() as session:
            session.get_one(Project, 1).train_requested_at = time.time()
        batch.loop.settle()
        with store.read() as session:
            assert session.scalar(select(func.max(Version.number))) == trained

    def predict(calls: int) -> None:
        for _ in range(calls):
            batch.predictor.predict(1, known, None)
        batch.answer([(SOUND, SOUND.make())], good=5)

    def use_now() -> Use:
        batch.fetcher.close()  # which keeps connections and processes for the next image
        time.sleep(0.5)  # the stand-in's threads let go of connections that were closed
        return use_of(os.getpid())

    for _ in range(3):
        train()
        predict(5)
    before = use_now()
    for _ in range(5):
        train()
        predict(20)
    after = use_now()
    # The rest of the test session opens and closes a few by itself; five trainings and 125 calls
    # that each kept one would keep more.
    assert after.descriptors <= before.descriptors + FEW
    assert after.processes <= before.processes + FEW
    assert after.bytes - before.bytes < 50_000_000
