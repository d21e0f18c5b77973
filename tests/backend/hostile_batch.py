"""Hostile files among good ones, on the way that every image takes through ``/predict``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from backend.champion import Champions
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.payloads import PredictTask
from backend.predictor import Predictor
from backend.settings import Settings
from backend.store import Store
from backend.tables import ImageSource
from backend.task_rows import source_key
from tests.backend.hostile_image import Hostile, noise, saved
from tests.backend.loop_project import CLASSES, COLOURS, Loop, config
from tests.backend.small_label_studio import SmallLabelStudio

FIRST = 1000


@dataclass(frozen=True)
class Outcome:
    """What came of a hostile file: the ``size`` that it was decoded to, or what was ``said``."""

    hostile: Hostile
    size: tuple[int, int] | None
    said: str

    @property
    def expected(self) -> bool:
        """Whether that is what must come of it."""
        if self.size is not None:
            return self.size == self.hostile.size
        return bool(self.hostile.says) and bool(re.search(self.hostile.says, self.said))


class HostileBatch:
    """A project that has learned something, and a Label Studio that serves hostile files."""

    def __init__(
        self, settings: Settings, store: Store, studio: SmallLabelStudio, client: LabelStudio
    ) -> None:
        random = np.random.default_rng(0)
        studio.project["label_config"] = config(*CLASSES)
        for task in range(1, 31):
            red, green, blue = COLOURS[CLASSES[task % 3]] + random.integers(-20, 20, 3)
            studio.add_task(task, (int(red), int(green), int(blue)))
            studio.annotate(task, label=[CLASSES[task % 3]])
        changes = {"label_studio_url": studio.url, "audit_share": 0.0, "quiet_seconds": 0.0}
        settings = settings.model_copy(update=changes)
        self.loop = Loop(settings, store, client)
        assert self.loop.settle().champion == 1
        self.loop.tools.fetcher.close()
        self.studio, self.store = studio, store
        self.fetcher = ImageFetcher(settings, client)
        self.predictor = Predictor(
            settings,
            store,
            Champions(store, settings.data_dir),
            self.fetcher,
            self.loop.tools.engine,
        )
        self._next = FIRST

    def answer(self, files: Sequence[tuple[Hostile, bytes]], *, good: int) -> list[Outcome]:
        """Ask for the predictions of all files at once, with ``good`` new pictures behind each.

        Every good one must be answered.
        """
        hostile, sound = [], []
        for _, data in files:
            hostile.append(self._served(data))
            sound += [self._served(self._picture()) for _ in range(good)]
        tasks = [PredictTask(id=n, data={"image": f"/data/{n}"}) for n in (*hostile, *sound)]
        _, predictions = self.predictor.predict(1, tasks, None)
        said = dict(zip((*hostile, *sound), predictions, strict=True))
        for number in sound:
            assert said[number].score < 1, number
            assert said[number].result, number
        found = [self._outcome(n, one) for n, (one, _) in zip(hostile, files, strict=True)]
        for number, outcome in zip(hostile, found, strict=True):
            assert (said[number].score < 1) is (outcome.size is not None), outcome
        return found

    def _served(self, data: bytes) -> int:
        self._next += 1
        self.studio.pictures[self._next] = data
        return self._next

    def _picture(self) -> bytes:
        return saved(noise(40, 30, seed=self._next), "JPEG")

    def _source(self, number: int) -> ImageSource:
        with self.store.read() as session:
            query = select(ImageSource).where(ImageSource.source == source_key(f"/data/{number}"))
            return session.scalars(query).one()

    def _outcome(self, number: int, hostile: Hostile) -> Outcome:
        source = self._source(number)
        if source.digest is None:
            assert source.retry_at is None
            return Outcome(hostile, None, source.failure)
        return Outcome(hostile, self.loop.tools.copies.open(source.digest).size, "")
