"""Fixtures of the backend's tests: settings in a temporary folder, a real database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from numpy.typing import NDArray

from backend.embedding_rows import to_bytes
from backend.settings import Settings
from backend.store import Store
from backend.tables import Embedding, ImageGroup, ImageSource, Label, Project, Task, TaskImage
from backend.task_rows import source_key
from tests.backend.buckets import machine, s3, shared
from tests.backend.databases import database, new_database
from tests.backend.described_client import DescribedClient
from tests.backend.experiments import here
from tests.backend.loop_project import make_loop
from tests.backend.measured_project import measured, measured_once
from tests.backend.peers import make, other, studio
from tests.backend.prediction_keeper import keeper, keeper_client
from tests.backend.saved_versions import three
from tests.backend.served_app import client, settings_in
from tests.backend.small_label_studio import small_client, small_label_studio

__all__ = [
    "client",
    "database",
    "here",
    "keeper",
    "keeper_client",
    "machine",
    "make",
    "make_loop",
    "measured",
    "measured_once",
    "new_database",
    "other",
    "s3",
    "shared",
    "small_client",
    "small_label_studio",
    "studio",
    "three",
]


@pytest.fixture
def settings(tmp_path: Path, database: str | None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that touch nothing outside the test's folder. Label Studio is not there."""
    if database is not None:
        monkeypatch.setenv("DATABASE_URL", database)  # commands read it there
    return settings_in(tmp_path, database_url=database)


@pytest.fixture(autouse=True)
def answers_are_as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold every answer of an app in a test to the app's own OpenAPI description."""
    monkeypatch.setattr(Flask, "test_client_class", DescribedClient)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A migrated database."""
    made = Store(settings.database_address)
    made.migrate()
    yield made
    made.close()


SINGLE = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image">
<Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices></View>"""
BACKBONE = "test-backbone"


def digest_of(task_id: int) -> str:
    """The SHA-256 of the image of a task in :class:`Tables`."""
    return hashlib.sha256(str(task_id).encode()).hexdigest()


class Tables:
    """A project in the database, written the way a look at Label Studio writes it."""

    def __init__(self, store: Store, config: str = SINGLE) -> None:
        self.store = store
        with store.write() as session:
            session.add(Project(id=1, title="Test", label_config=config, connected_at=0.0))

    def task(
        self,
        task_id: int,
        vector: NDArray[Any] | None = None,
        *,
        leader: str | None = "",
        **images: str,
    ) -> str:
        """A task; with ``vector`` its image is embedded. The digest of its image.

        The image is in the group of ``leader``, by default in one of its own; None: in none yet.
        """
        digest = digest_of(task_id)
        with self.store.write() as session:
            session.add(Task(project_id=1, id=task_id))
            for data_key, uri in (images or {"image": f"/data/{task_id}.png"}).items():
                source = source_key(uri)
                session.add(
                    TaskImage(
                        project_id=1, task_id=task_id, data_key=data_key, uri=uri, source=source
                    )
                )
                if vector is not None:
                    session.merge(ImageSource(source=source, digest=digest))
            if vector is not None:
                row = Embedding(digest=digest, backbone=BACKBONE, vector=to_bytes(vector))
                session.merge(row)
            if vector is not None and leader is not None:
                session.add(ImageGroup(project_id=1, digest=digest, leader=leader or digest))
        return digest

    def task_image(self, task_id: int, data_key: str, vector: NDArray[Any]) -> None:
        """Another image of a task, embedded and in a group of its own."""
        uri = f"/data/{task_id}-{data_key}.png"
        source, digest = source_key(uri), hashlib.sha256(uri.encode()).hexdigest()
        with self.store.write() as session:
            session.add(
                TaskImage(project_id=1, task_id=task_id, data_key=data_key, uri=uri, source=source)
            )
            session.add(ImageSource(source=source, digest=digest))
            session.add(Embedding(digest=digest, backbone=BACKBONE, vector=to_bytes(vector)))
            session.add(ImageGroup(project_id=1, digest=digest, leader=digest))

    def label(self, task_id: int, *choices: str, control: str = "label", status: str = "") -> None:
        """What the people agreed on; ``status`` for a label that cannot be learned from."""
        with self.store.write() as session:
            session.merge(
                Label(
                    project_id=1,
                    task_id=task_id,
                    control=control,
                    status=status or "agreed",
                    choices=list(choices),
                )
            )
            session.get_one(Task, (1, task_id)).is_labeled = True

    def clusters(self, count: int, seed: int = 0, noise: float = 0.3) -> list[str]:
        """``count`` embedded tasks from 1 on in three clusters; the class of each."""
        random = np.random.default_rng(seed)
        centres = np.eye(3, 16) * 2
        classes = [("cat", "dog", "owl")[n % 3] for n in range(count)]
        for n in range(count):
            self.task(n + 1, centres[n % 3] + random.normal(0, noise, 16))
        return classes

    def project(self) -> Project:
        """The project's row."""
        with self.store.read() as session:
            return session.get_one(Project, 1)


@pytest.fixture
def tables(store: Store) -> Tables:
    """A project with the classes cat, dog and owl, and no tasks."""
    return Tables(store)
