"""The steps after a fine-tune's child process: judge, embed, promote; and the ways to end early."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.champion import Champions, load_whole
from backend.engine import LocalEngine
from backend.finetunes import (
    CANCELLED,
    EMBEDDING,
    FAILED,
    JUDGING,
    PROMOTED,
    REFUSED,
    TRAINING,
    WAITING,
    cancel_fine_tune,
    fine_tune_json,
)
from backend.groups import known_images
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.payloads import PredictTask
from backend.pool import count_images
from backend.predictor import Predictor
from backend.projects import project_status
from backend.prune import prune
from backend.tables import Embedding, ImageSource, Project
from backend.tuned_networks import find_tuned, network_path, tuned_folder
from backend.versions import promote, roll_back
from model.audit import in_audit
from model.errors import ArtifactError
from tests.backend.finetune_project import FineTuneProject, fine_tuned, picture
from tests.backend.prediction_keeper import PredictionKeeper

__all__ = ["fine_tuned"]

pytestmark = pytest.mark.timeout(900)


def _embedded(project: FineTuneProject, backbone: str) -> int:
    with project.store.read() as session:
        return count_images(session, 1, backbone).embedded


def test_the_old_version_serves_until_the_pool_is_embedded(fine_tuned: FineTuneProject) -> None:
    identity = fine_tuned.adopt()
    tables = fine_tuned.tables
    assert _embedded(fine_tuned, identity) == 0
    fine_tuned.go_on(lambda row: row.state == EMBEDDING)
    assert (_embedded(fine_tuned, identity), tables.project().champion) == (48, 1)
    # Labels that came meanwhile are learned by heads at once, on the old network.
    fine_tuned.label(range(49, 55))
    assert fine_tuned.learn().version == 2
    assert [v.backbone == identity for v in fine_tuned.versions()] == [False, False]
    row = fine_tuned.go_on()
    assert (row.state, row.version, row.backbone) == (PROMOTED, 3, identity)
    assert _embedded(fine_tuned, identity) == 60
    project, version = tables.project(), fine_tuned.versions()[2]
    assert (project.champion, project.history) == (3, [1, 2])
    assert (version.labels, version.backbone, version.kept) == (54, identity, True)
    assert version.metrics["finetune"]["labels"] == 48
    artifact = fine_tuned.tools.champions.get(1)
    assert artifact is not None
    base = fine_tuned.tools.engine.backbone
    tuned = artifact.manifest["tuned"]
    assert isinstance(tuned, dict)
    assert (tuned["identity"], tuned["base"]) == (identity, base)
    # Nothing is left to be trained because of it, and the next labels are learned on it.
    fine_tuned.label(range(55, 60))
    assert fine_tuned.learn().version == 4
    assert fine_tuned.versions()[3].backbone == identity


def test_heads_on_a_tuned_network_are_tested_on_what_it_was_not_trained_on(
    fine_tuned: FineTuneProject,
) -> None:
    fine_tuned.adopt(trained=30)
    assert fine_tuned.go_on().state == PROMOTED
    (metrics,) = fine_tuned.versions()[1].metrics["controls"].values()
    assert (metrics["n"], metrics["tested"]) == (48, 18)


def test_a_refused_one_leaves_the_champion_and_its_labels_alone(
    fine_tuned: FineTuneProject,
) -> None:
    half = fine_tuned.settings.model_copy(update={"audit_share": 0.5})
    held = [n for n, digest in fine_tuned.digests.items() if in_audit(digest, 0.5)]
    assert len([n for n in held if n <= 48]) >= 20
    with fine_tuned.store.write() as session:
        session.get_one(Project, 1).attempted = "something else"
    fine_tuned.settings = half
    fine_tuned.begin("first")
    identity = fine_tuned.adopt()
    # What the tuned network sees in the held-out images says nothing about them.
    fine_tuned.embed(identity)
    with fine_tuned.store.write() as session:
        for row in session.query(Embedding).filter(Embedding.backbone == identity):
            if in_audit(row.digest, 0.5):
                row.vector = bytes(len(row.vector))
    ended = fine_tuned.go_on()
    assert ended.state == REFUSED, ended.reason
    assert ended.reason.startswith("Refused")
    project, version = fine_tuned.tables.project(), fine_tuned.versions()[1]
    assert (project.champion, project.attempted) == (1, "something else")
    assert (version.number, version.kept, version.reason) == (2, False, ended.reason)
    assert load_whole(half.data_dir, 1, 2).backbone == identity


def test_one_that_is_no_better_is_given_up_before_anything_is_embedded(
    fine_tuned: FineTuneProject,
) -> None:
    fine_tuned.ask()
    assert fine_tuned.steps.tend()
    fine_tuned.answer(improved=False)
    row = fine_tuned.go_on()
    assert (row.state, row.version) == (REFUSED, None)
    assert "better" in row.reason
    assert not list(tuned_folder(fine_tuned.settings.data_dir).glob("*"))


def test_it_is_cancelled_while_the_pool_is_embedded(fine_tuned: FineTuneProject) -> None:
    identity = fine_tuned.adopt()
    fine_tuned.go_on(lambda row: row.state == EMBEDDING)
    assert cancel_fine_tune(fine_tuned.store, 1) == fine_tuned.row().id
    row = fine_tuned.go_on()
    assert (row.state, row.reason) == (CANCELLED, "Cancelled. v1 serves as before.")
    assert fine_tuned.tables.project().champion == 1
    assert find_tuned(tuned_folder(fine_tuned.settings.data_dir), identity) is None
    assert _embedded(fine_tuned, identity) == 0
    assert cancel_fine_tune(fine_tuned.store, 1) is None


def test_a_trainer_killed_while_it_takes_the_network_over(fine_tuned: FineTuneProject) -> None:
    fine_tuned.ask()
    assert fine_tuned.steps.tend()
    result = fine_tuned.answer()
    row = fine_tuned.row()
    folder = fine_tuned.settings.data_dir / "finetunes" / "project-1" / str(row.id)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    fine_tuned.go_on(lambda row: row.state == JUDGING)
    # The network was moved, and then the trainer was gone before it could write that down.
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in kept.items():
        if name != "tuned.safetensors":
            (folder / name).write_bytes(data)
    with fine_tuned.store.write() as session:
        session.merge(row).state = TRAINING
    fine_tuned.begin("second")
    assert fine_tuned.go_on().state == PROMOTED
    assert fine_tuned.row().backbone.split("-")[1] == result.sha256[:8]


def test_a_lost_tuned_network_ends_it(fine_tuned: FineTuneProject) -> None:
    identity = fine_tuned.adopt()
    network_path(tuned_folder(fine_tuned.settings.data_dir), identity).unlink()
    row = fine_tuned.go_on()
    assert (row.state, "is missing" in row.reason) == (FAILED, True)


def test_rolling_back_to_the_original_network_and_again_forward(
    fine_tuned: FineTuneProject,
) -> None:
    fine_tuned.adopt()
    assert fine_tuned.go_on().version == 2
    settings, store = fine_tuned.settings, fine_tuned.store
    assert roll_back(store, settings, 1).version == "v1"
    fine_tuned.add(4, labelled=0)
    done = promote(store, settings, 1, 2)
    assert done.version == "v2"
    assert any(w.startswith("4 of 64 images") for w in done.warnings)
    status = _status(fine_tuned)
    assert (status["version"], status["embedded"], status["images"]) == ("v2", 60, 64)


def _status(project: FineTuneProject) -> dict[str, object]:
    with project.store.read() as session:
        return project_status(session, session.get_one(Project, 1), 30).as_json()


def test_a_damaged_tuned_network_falls_back_to_what_served_before(
    fine_tuned: FineTuneProject,
) -> None:
    identity = fine_tuned.adopt()
    fine_tuned.go_on()
    data_dir, store = fine_tuned.settings.data_dir, fine_tuned.store
    path = network_path(tuned_folder(data_dir), identity)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="is damaged"):
        load_whole(data_dir, 1, 2)
    champions = Champions(store, data_dir)
    found = champions.get(1)
    assert found is not None
    assert found.version == 1
    path.write_bytes(whole)
    found = champions.get(1)
    assert found is not None
    assert found.version == 2


def test_pruning_takes_a_tuned_network_with_its_last_version(
    fine_tuned: FineTuneProject, keeper_client: LabelStudio, keeper: PredictionKeeper
) -> None:
    first = fine_tuned.adopt()
    fine_tuned.go_on()
    second = fine_tuned.adopt(seed=1)
    fine_tuned.go_on()
    store, folder = fine_tuned.store, tuned_folder(fine_tuned.settings.data_dir)
    one = fine_tuned.settings.model_copy(update={"keep_versions": 1})
    # Version 2 served before, and goes once another has served in between.
    assert prune(store, keeper_client, one, 1).removed == ["v1"]
    assert find_tuned(folder, first) is not None
    with store.write() as session:
        session.get_one(Project, 1).history = []
    assert prune(store, keeper_client, one, 1).removed == ["v2"]
    assert (find_tuned(folder, first), _embedded(fine_tuned, first)) == (None, 0)
    assert find_tuned(folder, second) is not None
    assert _embedded(fine_tuned, second) == 60
    assert _embedded(fine_tuned, fine_tuned.tools.engine.backbone) == 60


def test_an_engine_embeds_with_each_network(fine_tuned: FineTuneProject) -> None:
    identity = fine_tuned.adopt()
    engine = LocalEngine(fine_tuned.settings)
    image = fine_tuned.tools.copies.open(fine_tuned.digests[1])
    assert engine.can_embed(identity)
    assert engine.can_embed(engine.backbone)
    assert not engine.can_embed("mobilenet_v3_small-00000000-32px")
    ours, theirs = engine.embed([image], identity), engine.embed([image])
    assert not np.array_equal(ours, theirs)
    assert np.array_equal(theirs, engine.embed([image], engine.backbone))
    fine_tuned.go_on()
    with fine_tuned.store.read() as session:
        kept = known_images(session, 1, "image", identity).embeddings
    assert np.allclose(kept[0], ours[0], atol=0.02)


def test_an_image_that_is_gone_holds_nothing_up(fine_tuned: FineTuneProject) -> None:
    copies = fine_tuned.tools.copies
    fine_tuned.adopt()
    copies.path(fine_tuned.digests[60]).unlink()
    with fine_tuned.store.write() as session:
        for row in session.query(ImageSource).filter_by(digest=fine_tuned.digests[60]):
            row.retry_at = None
    assert fine_tuned.go_on().state == PROMOTED


def test_the_status_says_how_it_stands(fine_tuned: FineTuneProject) -> None:
    fine_tuned.ask()
    assert fine_tuned.steps.tend()
    row = fine_tuned.row()
    with fine_tuned.store.write() as session:
        session.merge(row).progress = {"epoch": 3, "epochs": 12, "eta_seconds": 250.0}
    status = _status(fine_tuned)["finetune"]
    assert isinstance(status, dict)
    assert status["sentence"] == ("fine-tuning on 48 labels: epoch 3 of 12, about 4 min left")
    assert fine_tune_json(fine_tuned.row())["state"] == TRAINING


def test_it_starts_by_itself_when_due_and_then_rests(fine_tuned: FineTuneProject) -> None:
    assert not fine_tuned.step()  # 16 labels of each class are fewer than 20
    few = {"finetune_min_per_class": 16}
    only_heads = fine_tuned.settings.model_copy(update={**few, "transfer": "features"})
    fine_tuned.settings = only_heads
    fine_tuned.begin("first")
    assert not fine_tuned.step()
    fine_tuned.settings = fine_tuned.settings.model_copy(update={"transfer": "finetune"})
    fine_tuned.begin("first")
    assert fine_tuned.step()
    assert (fine_tuned.row().state, fine_tuned.row().asked) == (WAITING, False)
    assert fine_tuned.steps.tend()
    fine_tuned.answer(improved=False)
    assert fine_tuned.go_on().labels == 48
    assert not fine_tuned.step()
    # 71 labels are fewer than 48 times 1.5, and 72 are not.
    fine_tuned.add(12, labelled=0)
    fine_tuned.embed()
    fine_tuned.label(range(49, 72))
    assert not fine_tuned.step()
    fine_tuned.label(range(72, 73))
    assert fine_tuned.step()
    assert fine_tuned.row().state == WAITING


def test_projects_take_turns(fine_tuned: FineTuneProject, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    fine_tuned.tools.slot.start(7, 2, tmp_path / "other")
    fine_tuned.ask()
    assert not fine_tuned.steps.tend()
    assert fine_tuned.row().reason == "one at a time, and project 2 comes first"
    assert fine_tuned.woken
    fine_tuned.tools.slot.stop()
    assert fine_tuned.steps.tend()
    assert (fine_tuned.row().state, fine_tuned.row().reason) == (TRAINING, "")


def test_another_trainers_child_is_left_alone(fine_tuned: FineTuneProject) -> None:
    fine_tuned.ask()
    assert fine_tuned.steps.tend()
    with fine_tuned.store.write() as session:
        session.merge(fine_tuned.row()).owner = "another"
    Leases(fine_tuned.store, "another", 30).beat()
    assert not fine_tuned.steps.tend()
    assert fine_tuned.tools.slot.project_id is None
    Leases(fine_tuned.store, "another", 30).give_back()
    fine_tuned.answer()
    assert fine_tuned.go_on().state == PROMOTED


def test_the_server_predicts_with_the_tuned_network(fine_tuned: FineTuneProject) -> None:
    identity = fine_tuned.adopt()
    fine_tuned.go_on()
    settings, store, tools = fine_tuned.settings, fine_tuned.store, fine_tuned.tools
    server = Predictor(
        settings,
        store,
        Champions(store, settings.data_dir),
        tools.fetcher,
        LocalEngine(settings),
    )
    new = PredictTask(id=999, data={"image": picture(fine_tuned.pictures[100])})
    version, (entry,) = server.predict(1, [new], None)
    assert version == "v2"
    assert entry.result
    network_path(tuned_folder(settings.data_dir), identity).rename(settings.data_dir / "away")
    # Known images are answered from what is kept, others come last.
    other = PredictTask(id=998, data={"image": picture(fine_tuned.pictures[101])})
    version, (known, unknown) = server.predict(1, [new, other], None)
    assert (version, known.result, unknown.result) == ("v2", entry.result, [])
