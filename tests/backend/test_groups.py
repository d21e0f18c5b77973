from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import delete, select

from backend.champion import Champions
from backend.dataset import labelled_images
from backend.errors import LeaseLost
from backend.finetune_plan import labelled_pool
from backend.groups import count_ungrouped, group_images, known_images, leaders_of
from backend.id_ranges import ids_of
from backend.judging import TRAINED_ON
from backend.lease import Leases
from backend.settings import Settings
from backend.store import Store
from backend.sync import controls_of
from backend.tables import ImageGroup, Project
from backend.training import train
from model.audit import in_audit
from tests.backend.conftest import BACKBONE, Tables, digest_of


@pytest.fixture
def leases(store: Store, tables: Tables) -> Leases:
    made = Leases(store, "test", 30)
    assert made.acquire(1)
    return made


def _group(tables: Tables, leases: Leases, **options: bool) -> int:
    return group_images(tables.store, leases, 1, BACKBONE, **options)


def _groups(tables: Tables) -> dict[str, str]:
    with tables.store.read() as session:
        rows = session.execute(select(ImageGroup.digest, ImageGroup.leader).order_by(ImageGroup.id))
        return {digest: leader for digest, leader in rows}  # noqa: C416


def _pictures(count: int, seed: int, wobble: float = 0.05) -> NDArray[np.float64]:
    """Pictures of which most resemble one of a few, some so much as to be near-duplicates."""
    random = np.random.default_rng(seed)
    shown = random.normal(size=(max(2, count // 3), 16))
    return shown[random.integers(len(shown), size=count)] + random.normal(0, wobble, (count, 16))


def _names(tables: Tables, tasks: Sequence[int]) -> dict[int, int]:
    """Task → the task whose image leads its group."""
    task_of = {digest_of(task): task for task in tasks}
    return {task_of[d]: task_of[leader] for d, leader in _groups(tables).items()}


def test_pictures_of_the_same_thing_are_a_group(tables: Tables, leases: Leases) -> None:
    cat, dog = np.eye(2, 16)
    for task, picture in enumerate([cat, dog, cat + 0.0001, dog, cat + dog], start=1):
        tables.task(task, picture, leader=None)
    with tables.store.read() as session:
        assert count_ungrouped(session, 1, BACKBONE) == 5
        assert len(known_images(session, 1, "image", BACKBONE).task_ids) == 0
    assert _group(tables, leases) == 5
    assert _names(tables, range(1, 6)) == {1: 1, 2: 2, 3: 1, 4: 2, 5: 5}
    with tables.store.read() as session:
        assert count_ungrouped(session, 1, BACKBONE) == 0
        known = known_images(session, 1, "image", BACKBONE, with_digests=True)
        asked = leaders_of(session, 1, [digest_of(3), "not seen yet"])
    assert known.task_ids.tolist() == [1, 2, 3, 4, 5]
    assert known.leaders[2] == known.digests[0] == digest_of(1).encode()
    assert asked == {digest_of(3): digest_of(1), "not seen yet": "not seen yet"}
    assert _group(tables, leases) == 0


@pytest.mark.parametrize("seed", range(3))
def test_groups_found_bit_by_bit_are_those_found_at_once(
    tables: Tables, leases: Leases, seed: int
) -> None:
    pictures = _pictures(60, seed)
    for task, picture in enumerate(pictures, start=1):
        tables.task(task, picture, leader=None)
    assert _group(tables, leases) == 60
    at_once = _groups(tables)
    assert 10 < len(set(at_once.values())) < 50
    with tables.store.write() as session:
        session.execute(delete(ImageGroup))
        for table in ("task_images", "tasks", "image_sources", "embeddings"):
            session.connection().exec_driver_sql(f"DELETE FROM {table}")
    for task, picture in enumerate(pictures, start=1):
        tables.task(task, picture, leader=None)
        if task % 7 == 0:
            _group(tables, leases)
    _group(tables, leases)
    assert list(_groups(tables).items()) == list(at_once.items())


def test_a_group_never_changes(tables: Tables, leases: Leases) -> None:
    cat = np.eye(1, 16)[0]
    tables.task(5, cat, leader=None)
    _group(tables, leases)
    # A task with a lower number would have led the group, had it been there.
    tables.task(1, cat, leader=None)
    _group(tables, leases)
    assert _names(tables, [1, 5]) == {5: 5, 1: 5}


def test_a_trainer_that_lost_its_lease_writes_no_group(
    tables: Tables, leases: Leases, store: Store
) -> None:
    for task, picture in enumerate(_pictures(20, 0), start=1):
        tables.task(task, picture, leader=None)
    leases.release(1)
    assert Leases(store, "another", 30).acquire(1)
    with pytest.raises(LeaseLost):
        _group(tables, leases)
    assert _groups(tables) == {}
    Leases(store, "another", 30).release(1)
    assert leases.acquire(1)
    assert _group(tables, leases) == 20


def test_the_labelled_get_their_groups_first(tables: Tables, leases: Leases) -> None:
    for task, picture in enumerate(_pictures(9, 1), start=1):
        tables.task(task, picture, leader=None)
    for task in (4, 8):
        tables.label(task, "cat")
    with tables.store.read() as session:
        assert count_ungrouped(session, 1, BACKBONE, labelled_only=True) == 2
    assert _group(tables, leases, labelled_only=True) == 2
    assert list(_groups(tables)) == [digest_of(4), digest_of(8)]
    assert _group(tables, leases) == 7


def test_what_has_no_group_is_not_learned_from(tables: Tables) -> None:
    tables.task(1, np.eye(1, 16)[0])
    tables.task(2, np.eye(2, 16)[1], leader=None)
    tables.label(1, "cat")
    tables.label(2, "dog")
    with tables.store.read() as session:
        project = session.get_one(Project, 1)
        [control] = controls_of(project)
        assert labelled_images(session, project, control, BACKBONE, 0.1).task_ids.tolist() == [1]
        assert [image.task_id for image in labelled_pool(session, project, 0.1)] == [1]


@pytest.mark.parametrize("seed", range(8))
def test_no_group_of_the_audit_set_is_ever_trained_on(
    tables: Tables, leases: Leases, settings: Settings, seed: int
) -> None:
    random = np.random.default_rng(seed)
    settings = settings.model_copy(update={"audit_share": random.uniform(0.05, 0.5)})
    for task, picture in enumerate(_pictures(40, seed, random.uniform(0.02, 0.2)), start=1):
        tables.task(task, picture, leader=None)
        if random.random() < 0.6:
            tables.label(task, ("cat", "dog", "owl")[task % 3])
        if random.random() < 0.2:
            _group(tables, leases, labelled_only=bool(random.random() < 0.5))
    _group(tables, leases, labelled_only=True)
    _check_nothing_of_it_is_learned(tables, leases, settings)


def _check_nothing_of_it_is_learned(tables: Tables, leases: Leases, settings: Settings) -> None:
    leader = _groups(tables)
    with tables.store.read() as session:
        tuned_on = {
            i.digest for i in labelled_pool(session, tables.project(), settings.audit_share)
        }
    assert train(tables.store, leases, settings, 1, BACKBONE, None).version == 1
    artifact = Champions(tables.store, settings.data_dir).get(1)
    assert artifact is not None
    record: Any = artifact.manifest[TRAINED_ON]
    learned = {digest_of(int(task)) for task in ids_of(record["label"])}
    assert learned == tuned_on
    kept_out = {d for d, lead in leader.items() if in_audit(lead, settings.audit_share)}
    assert kept_out
    assert {leader[digest] for digest in learned}.isdisjoint(leader[digest] for digest in kept_out)
