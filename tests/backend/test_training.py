from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sqlalchemy import select

from backend.champion import Champions, artifact_folder
from backend.dataset import encode_targets, learning_state
from backend.errors import LeaseLost
from backend.id_ranges import ids_of
from backend.label_config import parse_label_config
from backend.lease import Leases
from backend.projects import list_versions
from backend.settings import Settings
from backend.store import Store
from backend.tables import Label, Lease
from backend.training import TOO_LITTLE, train
from backend.versions import show_version
from backend.versions_text import version_text
from model.artifact import load_artifact
from model.audit import in_audit
from tests.backend.conftest import BACKBONE, Tables


@pytest.fixture
def leases(store: Store, tables: Tables) -> Leases:
    made = Leases(store, "test", 30)
    assert made.acquire(1)
    return made


def _train(tables: Tables, leases: Leases, settings: Settings):  # type: ignore[no-untyped-def]
    champion = Champions(tables.store, settings.data_dir).get(1)
    return train(tables.store, leases, settings, 1, BACKBONE, champion)


def _state(tables: Tables):  # type: ignore[no-untyped-def]
    with tables.store.read() as session:
        return learning_state(session, tables.project(), BACKBONE)


def test_a_training_makes_a_champion_that_is_right(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    classes = tables.clusters(90)
    for task_id, name in enumerate(classes[:60], start=1):
        tables.label(task_id, name)
    report = _train(tables, leases, settings)
    assert (report.version, report.kept) == (1, True)
    project = tables.project()
    assert project.champion == 1
    artifact = load_artifact(artifact_folder(settings.data_dir, 1, 1))
    assert artifact.backbone == BACKBONE
    random = np.random.default_rng(5)
    unseen = np.repeat(np.eye(3, 16) * 2, 50, axis=0) + random.normal(0, 0.3, (150, 16))
    head = artifact.heads["label"]
    found = head.probabilities(unseen.astype(np.float16)).argmax(axis=1)
    assert (found == np.repeat([0, 1, 2], 50)).mean() > 0.97
    assert artifact.manifest["labels"] == 60
    assert artifact.manifest["seed"] == settings.seed


def test_held_out_images_are_never_trained_on(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    classes = tables.clusters(90)
    digests = [tables.task(1000 + n, np.eye(3, 16)[n % 3] * 2) for n in range(30)]
    for n in range(30):
        tables.label(1000 + n, ("cat", "dog", "owl")[n % 3])
    held_out = sum(in_audit(digest, 0.5) for digest in digests)
    assert 5 < held_out < 25
    half = settings.model_copy(update={"audit_share": 0.5})
    report = _train(tables, leases, half)
    assert report.metrics["controls"]["label"]["n"] == 30 - held_out
    assert report.metrics["measures"]["label"]["held_out"]["n"] == held_out
    assert len(classes) == 90


def test_a_version_says_how_good_it_is_and_how_often_that_was_asked(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    half = settings.model_copy(update={"audit_share": 0.5})
    classes = tables.clusters(120)
    for task_id, name in enumerate(classes[:80], start=1):
        tables.label(task_id, name)
    first = _train(tables, leases, half)
    for task_id, name in enumerate(classes, start=1):
        tables.label(task_id, name)
    second = _train(tables, leases, half)
    held = [n for n, digest in _digests(120) if in_audit(digest, 0.5)]
    gate = second.metrics["gate"]
    assert (gate["n"], gate["looks"], gate["evidence"]) == (len(held), 2, "held-out")
    assert gate["champion_accuracy"] > 0.9
    assert first.metrics["gate"]["looks"] == 1
    artifact = load_artifact(artifact_folder(settings.data_dir, 1, 2))
    learned = ids_of(artifact.manifest["trained_on"]["label"])  # type: ignore[index,call-overload,arg-type]
    assert learned.tolist() == sorted(set(range(1, 121)) - set(held))
    stored = artifact.manifest["metrics"]["measures"]["label"]["held_out"]  # type: ignore[index,call-overload]
    assert stored == second.metrics["measures"]["label"]["held_out"]
    shown = show_version(tables.store, half, 1, 2)
    text = version_text(shown)
    assert "looks at the held-out labels so far: 2\n" in text
    assert f"held out, n = {len(held)}" in text
    with tables.store.read() as session:
        listed = list_versions(session, 1)
    assert "per_class" in shown["metrics"]["measures"]["label"]["held_out"]
    assert "per_class" not in listed[0]["metrics"]["measures"]["label"]["held_out"]


def test_while_few_labels_are_held_out_new_ones_judge(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    none = settings.model_copy(update={"audit_share": 0.0})
    classes = tables.clusters(120)
    for task_id, name in enumerate(classes[:60], start=1):
        tables.label(task_id, name)
    assert _train(tables, leases, none).kept
    # The old labels are turned round, so that the new ones, which are right, are got wrong.
    turned = {"cat": "dog", "dog": "owl", "owl": "cat"}
    for task_id, name in enumerate(classes[:80], start=1):
        tables.label(task_id, turned[name] if task_id <= 60 else name)
    report = _train(tables, leases, none)
    gate = report.metrics["gate"]
    assert (gate["evidence"], gate["n"], gate["looks"]) == ("cross-validated", 20, 0)
    assert not report.kept
    assert "as there are not 30 held-out labels yet" in report.reason
    assert set(gate["lost_ids"]) <= set(range(61, 81))


def test_what_was_learned_is_remembered(tables: Tables, leases: Leases, settings: Settings) -> None:
    classes = tables.clusters(30)
    for task_id, name in enumerate(classes, start=1):
        tables.label(task_id, name)
    before = _state(tables)
    assert (before.labels, before.changed) == (30, 30)
    _train(tables, leases, settings)
    after = _state(tables)
    assert (after.labels, after.changed) == (30, 0)
    assert tables.project().attempted == after.digest
    with tables.store.write() as session:
        row = session.get_one(Label, (1, 1, "label"))
        row.choices = ["owl"]
    changed = _state(tables)
    assert changed.changed == 1
    assert changed.digest != after.digest


def test_labels_without_two_classes_are_too_few(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    tables.clusters(9)
    for task_id in (1, 4, 7):
        tables.label(task_id, "cat")
    report = _train(tables, leases, settings)
    assert (report.version, report.reason) == (None, TOO_LITTLE)
    assert tables.project().champion == 0


def test_tied_and_outside_labels_are_not_learned(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    classes = tables.clusters(60)
    for task_id, name in enumerate(classes, start=1):
        status = {1: "tied", 2: "outside"}.get(task_id, "")
        tables.label(task_id, *(["cat", "dog"] if status else [name]), status=status)
    assert _state(tables).labels == 58
    none_held_out = settings.model_copy(update={"audit_share": 0.0})
    report = _train(tables, leases, none_held_out)
    assert report.metrics["controls"]["label"]["n"] == 58


def test_a_worse_challenger_is_refused_and_the_champion_stays(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    half = settings.model_copy(update={"audit_share": 0.5})
    classes = tables.clusters(120)
    for task_id, name in enumerate(classes[:60], start=1):
        tables.label(task_id, name)
    assert _train(tables, leases, half).kept
    turned = {"cat": "dog", "dog": "owl", "owl": "cat"}
    digests = dict(_digests(120))
    for task_id, name in enumerate(classes, start=1):
        wrong = not in_audit(digests[task_id], 0.5)
        tables.label(task_id, turned[name] if wrong else name)
    report = _train(tables, leases, half)
    assert (report.version, report.kept) == (2, False)
    assert tables.project().champion == 1
    with tables.store.read() as session:
        versions = list_versions(session, 1)
    assert [(v["version"], v["kept"]) for v in versions] == [("v2", False), ("v1", True)]


def _digests(count: int) -> list[tuple[int, str]]:
    return [(n, hashlib.sha256(str(n).encode()).hexdigest()) for n in range(1, count + 1)]


def test_what_a_killed_training_left_is_replaced(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    left = artifact_folder(settings.data_dir, 1, 1)
    left.mkdir(parents=True)
    (left / "heads.safetensors").write_bytes(b"half of it")
    for task_id, name in enumerate(tables.clusters(30), start=1):
        tables.label(task_id, name)
    assert _train(tables, leases, settings).kept
    assert load_artifact(left).version == 1


def test_a_trainer_that_lost_its_lease_promotes_nothing(
    tables: Tables, leases: Leases, settings: Settings
) -> None:
    for task_id, name in enumerate(tables.clusters(30), start=1):
        tables.label(task_id, name)
    with tables.store.write() as session:
        session.get_one(Lease, 1).owner = "another"
    with pytest.raises(LeaseLost):
        _train(tables, leases, settings)
    assert tables.project().champion == 0
    assert _state(tables).changed == 30


def test_a_deleted_label_is_unlearned(tables: Tables, leases: Leases, settings: Settings) -> None:
    for task_id, name in enumerate(tables.clusters(30), start=1):
        tables.label(task_id, name)
    _train(tables, leases, settings)
    with tables.store.write() as session:
        session.get_one(Label, (1, 1, "label")).status = "gone"
    state = _state(tables)
    assert (state.labels, state.changed) == (29, 1)
    _train(tables, leases, settings)
    with tables.store.read() as session:
        assert len(session.scalars(select(Label)).all()) == 29


def test_targets_of_a_multiple_control() -> None:
    config = """<View><Image name="image" value="$image"/><Choices name="tags" toName="image"
    choice="multiple"><Choice value="a"/><Choice value="b"/><Choice value="c"/></Choices></View>"""
    (control,) = parse_label_config(config).controls
    targets = encode_targets([["c", "a"], [], ["b"]], control)
    assert targets.tolist() == [[True, False, True], [False] * 3, [False, True, False]]


def test_a_new_control_or_backbone_changes_the_setup(tables: Tables) -> None:
    with tables.store.read() as session:
        project = tables.project()
        one = learning_state(session, project, "backbone-a").setup
        two = learning_state(session, project, "backbone-b").setup
        project.label_config = project.label_config.replace("owl", "eagle owl")
        three = learning_state(session, project, "backbone-a").setup
    assert len({one, two, three}) == 3
