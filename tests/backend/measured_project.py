"""A project with labels and versions that were fitted and measured for real, for its pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from flask.testing import FlaskClient

from backend.dataset import labelled_images
from backend.first_answers import NOTHING
from backend.measuring import measure_all
from backend.outlook import outlook_of
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of
from backend.tables import (
    FirstAnswer,
    ImageSource,
    Label,
    Project,
    Task,
    TrainerProcess,
    Version,
)
from backend.task_rows import source_key
from backend.version_metrics import OUTLOOK
from backend.withholding import AUDIT, BLIND, TICKED
from model.head import HeadFit, fit_head
from tests.backend.saved_versions import IDENTITY, embed_again, save_version
from tests.backend.served_app import client_of, settings_in

if TYPE_CHECKING:
    from tests.backend.conftest import Tables

AUDIT_SHARE = 0.4
TASKS = 420
LABELLED = 360
LEARNED = (20, 40, 80, 200)
CLASSES = ("cat", "dog", "owl")
NOISE = 1.1
HOSTILE = "<script>alert('x')</script>"


def make_measured(store: Store, settings: Settings, learned: Sequence[int] = LEARNED) -> Tables:
    """Project 1: three overlapping classes, versions that learned from the first labels, the last
    one refused; a broken image, copies, a tie and a label that no longer fits."""
    from tests.backend.conftest import Tables  # which hands out the fixtures below

    tables = Tables(store)
    classes = tables.clusters(TASKS, noise=NOISE)
    for task, name in enumerate(classes[:LABELLED], 1):
        tables.label(task, name)
    embed_again(tables)
    for number, count in enumerate(learned, 1):
        _version(tables, settings, number, count, kept=number < len(learned))
    _blemishes(tables)
    _first_answers(store)
    return tables


def _version(tables: Tables, settings: Settings, number: int, count: int, *, kept: bool) -> None:
    with tables.store.read() as session:
        project = session.get_one(Project, 1)
        controls = controls_of(project)
        part = labelled_images(session, project, controls[0], IDENTITY, settings.audit_share)
    learned = np.flatnonzero(~part.held_out)[:count]
    part = part.rows(np.sort(np.concatenate([learned, np.flatnonzero(part.held_out)])))
    fitted = ~part.held_out
    fit: HeadFit = fit_head(
        part.embeddings[fitted].astype(np.float32),
        part.targets[fitted],
        classes=CLASSES,
        multiple=False,
        seed=0,
    )
    save_version(tables, settings, number, kept=kept, heads={"label": fit.head})
    with tables.store.write() as session:
        version = session.get_one(Version, (1, number))
        version.labels = count
        version.created_at = 1_790_000_000.0 + 3600 * number
        gate = {"promote": kept, "gained": 3, "lost": 1, "gained_ids": [3, 6, 9], "lost_ids": [4]}
        version.metrics = {**measure_all([part], {"label": fit}, 0), "gate": gate}
        if not kept:
            version.reason = "Refused: worse on the audit labels."
    with tables.store.read() as session:
        project, version = session.get_one(Project, 1), session.get_one(Version, (1, number))
        ahead = outlook_of(session, project, controls, version, settings)
    with tables.store.write() as session:
        row = session.get_one(Version, (1, number))
        row.metrics = {**row.metrics, OUTLOOK: ahead}


def _first_answers(store: Store) -> None:
    """Two people: one leaves what is ticked more often than they agree with it when blind."""
    counts = {
        3: {TICKED: (6, 120), BLIND: (7, 20), AUDIT: (9, 40)},
        11: {TICKED: (12, 90), BLIND: (1, 9), NOTHING: (0, 20)},
    }
    rows = [
        (who, state, number < differ)
        for who, by_state in counts.items()
        for state, (differ, n) in by_state.items()
        for number in range(n)
    ]
    with store.write() as session:
        session.add_all(
            FirstAnswer(
                project_id=1,
                task_id=task,
                annotator=who,
                control="label",
                annotation_id=task,
                answered_at=1_790_000_000.0 + task,
                state=state,
                version=None if state == NOTHING else 1,
                blind_share=None if state == NOTHING else 0.1,
                said=None if state == NOTHING else ["cat"],
                given=["dog" if differs else "cat"],
                differs=None if state == NOTHING else differs,
            )
            for task, (who, state, differs) in enumerate(rows, 1)
        )


def _blemishes(tables: Tables) -> None:
    store = tables.store
    twin = tables.task(901, np.ones(16))
    tables.task(902)
    tables.task(903, np.ones(16) * 1.01, leader=twin)
    tables.task(904)
    tables.task(905)
    with store.write() as session:
        session.add(ImageSource(source=source_key("/data/902.png"), digest=twin))
        broken = f"404 from the server: {HOSTILE}"
        session.add(ImageSource(source=source_key("/data/904.png"), failure=broken, attempts=1))
        tied = Label(project_id=1, task_id=902, control="label", status="tied", choices=[])
        outside = Label(
            project_id=1,
            task_id=905,
            control="label",
            status="outside",
            choices=["fox"],
            detail='"fox" is not among the choices',
        )
        session.add_all([tied, outside])
        for task in range(1, LABELLED + 1):
            session.get_one(Task, (1, task)).annotations = 1
        project = session.get_one(Project, 1)
        project.title, project.served = "Pets & owls", "v3"
        project.waiting = "20 more labels for the next training"
        session.add(TrainerProcess(owner="t", heartbeat_at=1e12))


@pytest.fixture(scope="session")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project, to be copied and never written to."""
    folder = tmp_path_factory.mktemp("measured")
    settings = settings_in(folder, audit_share=AUDIT_SHARE)
    store = Store(settings.database_address)
    store.migrate()
    make_measured(store, settings)
    store.close()
    return folder


@pytest.fixture
def measured(measured_once: Path, tmp_path: Path) -> Iterator[tuple[FlaskClient, Store, Settings]]:
    """A client of an app on a copy of the project, its database and its settings."""
    shutil.copytree(measured_once, tmp_path / "measured")
    settings = settings_in(tmp_path / "measured", audit_share=AUDIT_SHARE)
    store = Store(settings.database_address)
    try:
        with client_of(settings) as made:
            yield made, store, settings
    finally:
        store.close()
