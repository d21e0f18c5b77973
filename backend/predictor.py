"""Answers ``/predict``: from the cache where an image is known, else fetched and embedded now."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image
from sqlalchemy import Connection

from backend import serving_reads
from backend.champion import Champions
from backend.deadline import time_limit
from backend.embedding_rows import embed_images
from backend.engine import LocalEngine
from backend.errors import ImageError
from backend.image_pipeline import Wanted, open_image
from backend.images import ImageFetcher
from backend.label_config import Control, readable_controls
from backend.log_context import carried
from backend.metrics import EMBEDDING_LOOKUPS, PREDICTIONS
from backend.orders import RANDOM, measure_of, place_tasks
from backend.payloads import PredictTask
from backend.pool import remember_digest, remember_failure
from backend.predictions import (
    Prediction,
    missing_image_prediction,
    predict_tasks,
    unlearned_prediction,
)
from backend.serving_reads import KnownImage, NewestOrders, read_images, read_project, read_pushed
from backend.settings import Settings
from backend.store import Store
from backend.tables import Order, order_name, version_name
from backend.task_rows import image_uris, source_key
from backend.withholding import TICKED, Withholding
from model.artifact import Artifact
from model.errors import TiebreakError

log = logging.getLogger(__name__)

BATCH = 64


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request: of each task its number, below 0 for none, and data key → image address; and what
    answers it."""

    project_id: int
    numbers: list[int]
    controls: tuple[Control, ...]
    uris: list[dict[str, str]]
    artifact: Artifact | None
    order: Order | None


class Predictor:
    """Predictions for tasks that Label Studio sends, one per task, in their order."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        champions: Champions,
        fetcher: ImageFetcher,
        engine: LocalEngine,
    ) -> None:
        self._settings = settings
        self._store = store
        self._champions = champions
        self._fetcher = fetcher
        self._engine = engine
        self._orders = NewestOrders()

    def predict(
        self, project_id: int, tasks: Sequence[PredictTask], label_config: str | None
    ) -> tuple[str, list[Prediction]]:
        """Name of the order and predictions. A task whose image cannot be had never harms the
        others."""
        with self._store.look() as rows:
            asked = self._ask(rows, project_id, tasks, label_config)
            images = self._images(rows, asked)
            missing = self._missing(asked, images)
            if not missing:
                return self._answer(rows, asked, images, missing)
        # Nothing is held while images are fetched.
        self._embed_missing(asked, missing)
        with self._store.look() as rows:
            return self._answer(rows, asked, self._images(rows, asked), missing)

    def _ask(
        self,
        rows: Connection,
        project_id: int,
        tasks: Sequence[PredictTask],
        label_config: str | None,
    ) -> _Asked:
        number, kept_config = read_project(rows, project_id)
        artifact = self._champions.load(project_id, number)
        controls = readable_controls(label_config or kept_config)
        version = artifact.version if artifact else 0
        return _Asked(
            project_id,
            # A caller may send tasks without a number, and the same one twice.
            [task.id or -1 - position for position, task in enumerate(tasks)],
            controls,
            [image_uris(task.data, controls) for task in tasks],
            artifact,
            self._orders.get(rows, project_id, version),
        )

    def _images(self, rows: Connection, asked: _Asked) -> dict[str, KnownImage]:
        backbone = asked.artifact.backbone if asked.artifact else ""
        uris = {uri for found in asked.uris for uri in found.values()}
        return read_images(rows, asked.project_id, uris, backbone)

    def _missing(self, asked: _Asked, images: Mapping[str, KnownImage]) -> dict[str, Wanted]:
        """By address, the images that must be embedded first."""
        if asked.artifact is None:
            return {}
        task_of = {
            uri: max(number, 0)
            for number, found in zip(asked.numbers, asked.uris, strict=True)
            for uri in found.values()
        }
        missing = {
            uri: Wanted(source_key(uri), uri, number, images[uri].digest if uri in images else None)
            for uri, number in task_of.items()
            if uri not in images or images[uri].vector is None
        }
        EMBEDDING_LOOKUPS.labels("hit").inc(len(task_of) - len(missing))
        EMBEDDING_LOOKUPS.labels("miss").inc(len(missing))
        return missing

    def _answer(
        self,
        rows: Connection,
        asked: _Asked,
        images: Mapping[str, KnownImage],
        made: Collection[str],
    ) -> tuple[str, list[Prediction]]:
        leaders = [
            {
                key: leader
                for key, uri in found.items()
                if uri in images and (leader := images[uri].leader) is not None
            }
            for found in asked.uris
        ]
        checks = serving_reads.read_checks(rows, asked.project_id, asked.numbers)
        said = self._said(asked, images, leaders, checks)
        for position, number in enumerate(asked.numbers):
            source = _source(asked.artifact, position in said, asked.uris[position], made)
            PREDICTIONS.labels(source).inc()
            if position not in said:
                log.warning("task %s: no image, so it is served last", max(number, 0) or None)
        places = self._places(rows, asked, said, leaders)
        version = asked.artifact.version if asked.artifact else 0
        return asked.order.name if asked.order else order_name(version, 0), [
            Prediction(places[position], said[position].result)
            if position in said
            else missing_image_prediction()
            for position in range(len(asked.numbers))
        ]

    def _said(
        self,
        asked: _Asked,
        images: Mapping[str, KnownImage],
        leaders: Sequence[Mapping[str, str]],
        checks: Collection[int],
    ) -> dict[int, Prediction]:
        """Position of a task → what the version says, for tasks with an image; some have no ticked
        choice, as ``checks``. While nothing is learned, of all that may have one."""
        if asked.artifact is None:
            broken = {uri for uri, image in images.items() if image.broken}
            return {
                position: self._unlearned(asked, position)
                for position, found in enumerate(asked.uris)
                if not broken.issuperset(found.values())
            }
        withholding = Withholding.of(asked.project_id, self._settings, checks)
        embeddings, withheld = {}, {}
        vectors = {uri: image.vector for uri, image in images.items() if image.vector is not None}
        for data_key in {control.data_key for control in asked.controls}:
            known = [i for i, found in enumerate(asked.uris) if found.get(data_key) in vectors]
            if known:
                found = np.stack([vectors[asked.uris[i][data_key]] for i in known])
                embeddings[data_key] = (known, found)
            states = {
                i: withholding.state(found[data_key], asked.numbers[i])
                for i, found in enumerate(leaders)
                if data_key in found
            }
            withheld[data_key] = {i: state for i, state in states.items() if state != TICKED}
        measure = measure_of(asked.order.strategy if asked.order else self._settings.strategy)
        return predict_tasks(asked.artifact, asked.controls, embeddings, measure, withheld)

    def _unlearned(self, asked: _Asked, position: int) -> Prediction:
        return unlearned_prediction(asked.project_id, asked.numbers[position], self._settings.seed)

    def _places(
        self,
        rows: Connection,
        asked: _Asked,
        said: Mapping[int, Prediction],
        leaders: Sequence[Mapping[str, str]],
    ) -> dict[int, float]:
        """Position → place: what Label Studio holds, or else what it would be sent."""
        order, numbers = asked.order, asked.numbers
        by_chance = order is not None and order.strategy == RANDOM
        own = {
            numbers[position]: self._unlearned(asked, position).score
            if by_chance
            else prediction.score
            for position, prediction in said.items()
        }
        groups = {numbers[position]: list(leaders[position].values()) for position in said}
        share = self._settings.audit_share
        places = place_tasks(rows, asked.project_id, order, own, groups, share)
        if order is not None:
            places |= read_pushed(rows, asked.project_id, order, list(own))
        return {position: places[numbers[position]] for position in said}

    def _embed_missing(self, asked: _Asked, missing: Mapping[str, Wanted]) -> None:
        """Fetch and embed images for as long as a caller waits."""
        assert asked.artifact is not None
        backbone, wanted = asked.artifact.backbone, list(missing.values())
        try:
            if not self._engine.can_embed(backbone):
                log.warning(
                    "%s needs embeddings of %s, which is not there; this server is set to %s",
                    version_name(asked.artifact.version),
                    backbone,
                    self._engine.backbone,
                )
                return
            deadline = time.monotonic() + self._settings.predict_seconds
            for start in range(0, len(wanted), BATCH):
                if time.monotonic() > deadline:
                    log.warning("%d images were left out: no time was left", len(wanted) - start)
                    break
                self._embed(wanted[start : start + BATCH], backbone, deadline)
        except TiebreakError as error:
            # A full disk, too: what is known is answered.
            log.error("no new image can be embedded: %s", error)

    def _embed(self, wanted: Sequence[Wanted], backbone: str, deadline: float) -> None:
        """Fetch and embed what can be had until ``deadline``, in monotonic seconds."""

        def fetch(each: Wanted) -> tuple[str, Image] | None:
            try:
                with time_limit(deadline - time.monotonic()):
                    digest, image = open_image(self._fetcher, self._fetcher.copies, each)
            except ImageError as error:
                if error.retry and time.monotonic() >= deadline:
                    log.warning("task %d is left out: no time was left", each.task_id)
                    return None  # which says nothing of the image
                log.warning("task %d: no image: %s", each.task_id, error)
                # An image that was had before may still be learned from: that it cannot be had
                # again is for the trainer to write down.
                if each.digest is None:
                    remember_failure(self._store, each.source, error)
                return None
            if digest != each.digest:
                remember_digest(self._store, each.source, digest)
            return digest, image

        with ThreadPoolExecutor(self._settings.image_workers) as threads:
            images = dict(pair for pair in threads.map(carried(fetch), wanted) if pair is not None)
        embed_images(self._store, self._engine, images, backbone)


def _source(
    artifact: Artifact | None, answered: bool, uris: Mapping[str, str], made: Collection[str]
) -> str:
    """Where the embedding of a task's image came from, in a word."""
    if not answered:
        return "missing"
    if artifact is None:
        return "unlearned"
    return "embedded" if any(uri in made for uri in uris.values()) else "cached"
