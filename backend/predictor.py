"""Answers ``/predict``: from the cache where an image is known, else fetched and embedded now."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from sqlalchemy import select

from backend.champion import Champions
from backend.engine import LocalEngine
from backend.errors import ImageError, LabelConfigError
from backend.images import ImageFetcher, WorkingCopies
from backend.label_config import Control, parse_label_config
from backend.payloads import PredictTask
from backend.pool import (
    embed_images,
    from_bytes,
    remember_digest,
    remember_failure,
)
from backend.predictions import (
    Prediction,
    missing_image_prediction,
    predict_tasks,
    unlearned_prediction,
)
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of, image_uris, source_key
from backend.tables import Embedding, ImageSource, Project, version_name
from model.artifact import Artifact
from model.errors import TiebreakError

log = logging.getLogger(__name__)

BATCH = 64
SQL_SLICE = 500


class Predictor:
    """Predictions for tasks that Label Studio sends, one per task, in their order."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        champions: Champions,
        fetcher: ImageFetcher,
        copies: WorkingCopies,
        engine: LocalEngine,
    ) -> None:
        self._settings = settings
        self._store = store
        self._champions = champions
        self._fetcher = fetcher
        self._copies = copies
        self._engine = engine

    def predict(
        self, project_id: int, tasks: Sequence[PredictTask], label_config: str | None
    ) -> tuple[str, list[Prediction]]:
        """Version and predictions. A task whose image cannot be had never harms the others."""
        artifact = self._champions.get(project_id)
        controls = self._controls(project_id, label_config)
        uris = [image_uris(task.data, controls) for task in tasks]
        if artifact is None:
            return version_name(0), self._unlearned(project_id, tasks, uris)
        vectors = self._vectors(artifact, tasks, uris)
        embeddings = {}
        for data_key in {control.data_key for control in controls}:
            # Positions stand in for task ids: a caller may send tasks without one.
            rows = [i for i, found in enumerate(uris) if found.get(data_key) in vectors]
            if rows:
                embeddings[data_key] = (rows, np.stack([vectors[uris[i][data_key]] for i in rows]))
        found = predict_tasks(artifact, controls, embeddings, self._settings.strategy)
        for position, task in enumerate(tasks):
            if position not in found:
                log.warning("task %s: no image, so it is served last", task.id)
        return version_name(artifact.version), [
            found.get(position, missing_image_prediction()) for position in range(len(tasks))
        ]

    def _unlearned(
        self, project_id: int, tasks: Sequence[PredictTask], uris: Sequence[Mapping[str, str]]
    ) -> list[Prediction]:
        """Places in a fixed random order; what is known to have no image comes last."""
        broken = self._broken({uri for found in uris for uri in found.values()})
        return [
            missing_image_prediction()
            if broken.issuperset(found.values())
            else unlearned_prediction(project_id, task.id or 0, self._settings.seed)
            for task, found in zip(tasks, uris, strict=True)
        ]

    def _broken(self, uris: Collection[str]) -> set[str]:
        by_key = {source_key(uri): uri for uri in uris}
        keys, found = list(by_key), set[str]()
        with self._store.read() as session:
            for start in range(0, len(keys), SQL_SLICE):
                query = select(ImageSource.source).where(
                    ImageSource.source.in_(keys[start : start + SQL_SLICE]),
                    ImageSource.digest.is_(None),
                    ImageSource.failure != "",
                )
                found.update(by_key[key] for key in session.scalars(query))
        return found

    def _controls(self, project_id: int, label_config: str | None) -> tuple[Control, ...]:
        if label_config:
            try:
                return parse_label_config(label_config).controls
            except LabelConfigError:
                return ()
        with self._store.read() as session:
            project = session.get(Project, project_id)
            return controls_of(project) if project else ()

    def _vectors(
        self,
        artifact: Artifact,
        tasks: Sequence[PredictTask],
        uris: Sequence[Mapping[str, str]],
    ) -> dict[str, NDArray[Any]]:
        """URI → embedding (width,), for every image that can be had in time."""
        task_of = {
            uri: task.id or 0
            for task, found in zip(tasks, uris, strict=True)
            for uri in found.values()
        }
        vectors = self._cached(artifact.backbone, list(task_of))
        missing = [uri for uri in task_of if uri not in vectors]
        if not missing:
            return vectors
        try:
            if not self._engine.can_embed(artifact.backbone):
                log.warning(
                    "%s needs embeddings of %s, which is not there; this server is set to %s",
                    version_name(artifact.version),
                    artifact.backbone,
                    self._engine.backbone,
                )
                return vectors
            deadline = time.monotonic() + self._settings.predict_seconds
            for start in range(0, len(missing), BATCH):
                if time.monotonic() > deadline:
                    log.warning("%d images were left out: no time was left", len(missing) - start)
                    break
                self._embed(missing[start : start + BATCH], task_of, artifact.backbone)
        except TiebreakError as error:
            log.error("no new image can be embedded: %s", error)
        return vectors | self._cached(artifact.backbone, missing)

    def _cached(self, backbone: str, uris: Sequence[str]) -> dict[str, NDArray[Any]]:
        by_key = {source_key(uri): uri for uri in uris}
        keys, found = list(by_key), {}
        with self._store.read() as session:
            for start in range(0, len(keys), SQL_SLICE):
                rows = session.execute(
                    select(ImageSource.source, Embedding.vector)
                    .join(Embedding, Embedding.digest == ImageSource.digest)
                    .where(
                        ImageSource.source.in_(keys[start : start + SQL_SLICE]),
                        Embedding.backbone == backbone,
                    )
                )
                found.update({by_key[key]: from_bytes([vector])[0] for key, vector in rows})
        return found

    def _embed(self, uris: Sequence[str], task_of: Mapping[str, int], backbone: str) -> None:
        def fetch(uri: str) -> tuple[str, Image] | None:
            try:
                digest = self._fetcher.fetch(uri, task_of[uri])
                image = self._copies.open(digest)
            except ImageError as error:
                log.warning("task %d: no image: %s", task_of[uri], error)
                remember_failure(self._store, source_key(uri), error)
                return None
            remember_digest(self._store, source_key(uri), digest)
            return digest, image

        with ThreadPoolExecutor(self._settings.image_workers) as threads:
            images = dict(pair for pair in threads.map(fetch, uris) if pair is not None)
        embed_images(self._store, self._engine, images, backbone)
