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
from backend.deadline import time_limit
from backend.engine import LocalEngine
from backend.errors import ImageError, LabelConfigError
from backend.groups import leaders_of
from backend.images import ImageFetcher, WorkingCopies
from backend.label_config import Control, parse_label_config
from backend.log_context import carried
from backend.metrics import EMBEDDING_LOOKUPS, PREDICTIONS
from backend.orders import RANDOM, measure_of, newest_order, place_tasks, pushed_scores
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
from backend.sync import controls_of
from backend.tables import Embedding, ImageSource, Order, Project, order_name, version_name
from backend.task_rows import image_uris, source_key
from model.artifact import Artifact
from model.audit import in_audit
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
        """Name of the order and predictions. A task whose image cannot be had never harms the
        others."""
        artifact = self._champions.get(project_id)
        controls = self._controls(project_id, label_config)
        uris = [image_uris(task.data, controls) for task in tasks]
        version = artifact.version if artifact else 0
        with self._store.read() as session:
            order = newest_order(session, project_id, version)
        # A caller may send tasks without a number, and the same one twice.
        numbers = [task.id or -1 - position for position, task in enumerate(tasks)]
        if artifact is None:
            said, made = self._unlearned(project_id, numbers, uris), set[str]()
            leaders = self._leaders(project_id, uris)
        else:
            vectors, made = self._vectors(artifact, tasks, uris)
            leaders = self._leaders(project_id, uris)
            said = self._said(artifact, controls, order, vectors, uris, leaders)
        for position in range(len(tasks)):
            PREDICTIONS.labels(_source(artifact, position in said, uris[position], made)).inc()
            if position not in said:
                log.warning("task %s: no image, so it is served last", tasks[position].id)
        places = self._places(project_id, order, numbers, said, leaders)
        return order.name if order else order_name(version, 0), [
            Prediction(places[position], said[position].result)
            if position in said
            else missing_image_prediction()
            for position in range(len(tasks))
        ]

    def _said(
        self,
        artifact: Artifact,
        controls: Sequence[Control],
        order: Order | None,
        vectors: Mapping[str, NDArray[Any]],
        uris: Sequence[Mapping[str, str]],
        leaders: Sequence[Mapping[str, str]],
    ) -> dict[int, Prediction]:
        """Position of a task → what the version says, for tasks with an image; audit images have no
        ticked choice."""
        share = self._settings.audit_share
        embeddings, unticked = {}, {}
        for data_key in {control.data_key for control in controls}:
            rows = [i for i, found in enumerate(uris) if found.get(data_key) in vectors]
            if rows:
                embeddings[data_key] = (rows, np.stack([vectors[uris[i][data_key]] for i in rows]))
            unticked[data_key] = {
                i
                for i, found in enumerate(leaders)
                if data_key in found and in_audit(found[data_key], share)
            }
        measure = measure_of(order.strategy if order else self._settings.strategy)
        return predict_tasks(artifact, controls, embeddings, measure, unticked)

    def _unlearned(
        self, project_id: int, numbers: Sequence[int], uris: Sequence[Mapping[str, str]]
    ) -> dict[int, Prediction]:
        """Positions of the tasks whose image may be had, as far as that is known."""
        broken = self._broken({uri for found in uris for uri in found.values()})
        return {
            position: unlearned_prediction(project_id, numbers[position], self._settings.seed)
            for position, found in enumerate(uris)
            if not broken.issuperset(found.values())
        }

    def _places(
        self,
        project_id: int,
        order: Order | None,
        numbers: Sequence[int],
        said: Mapping[int, Prediction],
        leaders: Sequence[Mapping[str, str]],
    ) -> dict[int, float]:
        """Position → place: what Label Studio holds, or else what it would be sent."""
        by_chance = order is not None and order.strategy == RANDOM
        own = {
            numbers[position]: unlearned_prediction(
                project_id, numbers[position], self._settings.seed
            ).score
            if by_chance
            else prediction.score
            for position, prediction in said.items()
        }
        groups = {numbers[position]: list(leaders[position].values()) for position in said}
        with self._store.read() as session:
            share = self._settings.audit_share
            places = place_tasks(session, project_id, order, own, groups, share)
            if order is not None:
                places |= pushed_scores(session, project_id, order, list(own))
        return {position: places[numbers[position]] for position in said}

    def _leaders(self, project_id: int, uris: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Of each task, data key → the leader of its image's group; an image that is not in a
        group yet leads itself."""
        by_key = {source_key(uri): uri for found in uris for uri in found.values()}
        keys, digests = list(by_key), dict[str, str]()
        with self._store.read() as session:
            for start in range(0, len(keys), SQL_SLICE):
                query = select(ImageSource.source, ImageSource.digest).where(
                    ImageSource.source.in_(keys[start : start + SQL_SLICE]),
                    ImageSource.digest.is_not(None),
                )
                digests.update((by_key[key], str(digest)) for key, digest in session.execute(query))
            leader = leaders_of(session, project_id, sorted(set(digests.values())))
        return [
            {key: leader[digests[uri]] for key, uri in found.items() if uri in digests}
            for found in uris
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
    ) -> tuple[dict[str, NDArray[Any]], set[str]]:
        """URI → embedding (width,), for every image that can be had in time; and the URIs whose
        embedding was not kept already."""
        task_of = {
            uri: task.id or 0
            for task, found in zip(tasks, uris, strict=True)
            for uri in found.values()
        }
        vectors = self._cached(artifact.backbone, list(task_of))
        missing = [uri for uri in task_of if uri not in vectors]
        EMBEDDING_LOOKUPS.labels("hit").inc(len(vectors))
        EMBEDDING_LOOKUPS.labels("miss").inc(len(missing))
        if not missing:
            return vectors, set()
        try:
            if not self._engine.can_embed(artifact.backbone):
                log.warning(
                    "%s needs embeddings of %s, which is not there; this server is set to %s",
                    version_name(artifact.version),
                    artifact.backbone,
                    self._engine.backbone,
                )
                return vectors, set(missing)
            deadline = time.monotonic() + self._settings.predict_seconds
            for start in range(0, len(missing), BATCH):
                if time.monotonic() > deadline:
                    log.warning("%d images were left out: no time was left", len(missing) - start)
                    break
                batch = missing[start : start + BATCH]
                self._embed(batch, task_of, artifact.backbone, deadline)
        except TiebreakError as error:
            # A full disk, too: what is known is answered.
            log.error("no new image can be embedded: %s", error)
        return vectors | self._cached(artifact.backbone, missing), set(missing)

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

    def _embed(
        self, uris: Sequence[str], task_of: Mapping[str, int], backbone: str, deadline: float
    ) -> None:
        """Fetch and embed what can be had until ``deadline``, in monotonic seconds."""

        def fetch(uri: str) -> tuple[str, Image] | None:
            try:
                with time_limit(deadline - time.monotonic()):
                    digest, image = self._fetcher.fetch_image(uri, task_of[uri])
            except ImageError as error:
                if error.retry and time.monotonic() >= deadline:
                    log.warning("task %d is left out: no time was left", task_of[uri])
                    return None  # which says nothing of the image
                log.warning("task %d: no image: %s", task_of[uri], error)
                remember_failure(self._store, source_key(uri), error)
                return None
            remember_digest(self._store, source_key(uri), digest)
            return digest, image

        with ThreadPoolExecutor(self._settings.image_workers) as threads:
            images = dict(pair for pair in threads.map(carried(fetch), uris) if pair is not None)
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
