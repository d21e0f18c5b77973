"""Learning from automatic labels with a weight, and from nothing that must not teach."""

from __future__ import annotations

import numpy as np
import pytest

from backend.candidate import Candidate, challenge
from backend.dataset import labelled_images, learning_state
from backend.groups import known_images
from backend.id_ranges import ids_of
from backend.labelstudio import LabelStudio
from backend.promises import PAUSED
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import AutoRun, Task
from model.head import fit_head
from tests.backend.auto_studio import AutoStudio
from tests.backend.conftest import BACKBONE, Tables
from tests.backend.small_label_studio import SmallLabelStudio

WEIGHT = 0.3


@pytest.fixture
def accepted(
    tables: Tables,
    settings: Settings,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
) -> AutoStudio:
    """People have labelled six images outside the audit set; the rest is accepted."""
    studio = AutoStudio(tables, settings, small_label_studio, small_client)
    for task in sorted(studio.rest)[:6]:
        tables.label(task, studio.truth[task])
    studio.accepting(studio.begin()).work()
    assert len(studio.held()) > 30
    return studio


def _challenge(studio: AutoStudio, weight: float) -> Candidate:
    settings = studio.settings.model_copy(update={"auto_label_weight": weight})
    found = challenge(studio.tables.store, settings, 1, BACKBONE, None)
    assert isinstance(found, Candidate)
    return found


def _digest(studio: AutoStudio, weight: float) -> str:
    with studio.tables.store.read() as session:
        return learning_state(session, studio.tables.project(), BACKBONE, weight).digest


def test_automatic_labels_teach_with_their_weight_and_measure_nothing(
    accepted: AutoStudio,
) -> None:
    held = sorted(accepted.held())
    without, found = _challenge(accepted, 0.0), _challenge(accepted, WEIGHT)
    told = found.metrics["controls"]["label"]
    assert (told["n"], told["automatic"], told["tested"]) == (6, len(held), 6)
    assert found.state.labels == without.state.labels == 6 + len(accepted.audit)
    for each in (found, without):
        measures = each.metrics["measures"]["label"]
        assert measures["held_out"]["n"] == len(accepted.audit)
        assert measures["cross_validated"]["n"] <= 6
    learned = ids_of(found.artifact.manifest["trained_on"]["label"])  # type: ignore[index,call-overload,arg-type]
    assert learned.tolist() == sorted([*sorted(accepted.rest)[:6], *held])

    # The same by hand: six labels and as many more of that weight that are not tested.
    with accepted.tables.store.read() as session:
        project = session.get_one(type(accepted.tables.project()), 1)
        [control] = controls_of(project)
        part = labelled_images(session, project, control, BACKBONE, accepted.settings.audit_share)
        part = part.rows(~part.held_out)
        images = known_images(session, 1, "image", BACKBONE)
    rows = np.searchsorted(images.task_ids, held)
    targets = [control.classes.index(accepted.truth[task]) for task in held]
    by_hand = fit_head(
        np.concatenate([part.embeddings, images.embeddings[rows]]),
        np.append(part.targets, targets),
        classes=control.classes,
        multiple=False,
        seed=accepted.settings.seed,
        honest=[True] * 6 + [False] * len(held),
        weights=[1.0] * 6 + [WEIGHT] * len(held),
        pool=None,
    )
    head = found.artifact.heads["label"]
    said, expected = (
        head.probabilities(images.embeddings),
        by_hand.head.probabilities(images.embeddings),
    )
    assert (said.argmax(axis=1) == expected.argmax(axis=1)).all()
    before = without.artifact.heads["label"]
    assert np.abs(head.weights - before.weights).max() > 0.01


def test_the_digest_knows_what_teaches(accepted: AutoStudio) -> None:
    store = accepted.tables.store
    plain, weighted = _digest(accepted, 0.0), _digest(accepted, WEIGHT)
    assert len({plain, weighted, _digest(accepted, 0.5)}) == 3
    # A person labels one of them: it is theirs alone.
    task = min(accepted.held())
    accepted.tables.label(task, accepted.truth[task])
    with store.write() as session:
        session.get_one(Task, (1, task)).annotations = 1
    told = _challenge(accepted, WEIGHT).metrics["controls"]["label"]
    assert (told["n"], told["automatic"]) == (7, len(accepted.held()) - 1)
    assert _digest(accepted, WEIGHT) not in (plain, weighted)
    # What a paused promise accepted teaches nothing, and neither does one under way.
    for state in (PAUSED, "accepting", "undone"):
        with store.write() as session:
            session.query(AutoRun).one().state = state
        assert _digest(accepted, WEIGHT) == _digest(accepted, 0.0)
        assert "automatic" not in _challenge(accepted, WEIGHT).metrics["controls"]["label"]


def test_a_class_that_no_person_has_labelled_is_not_taught(accepted: AutoStudio) -> None:
    owls = [task for task in sorted(accepted.rest)[:6] if accepted.truth[task] == "owl"]
    for task in owls:
        accepted.tables.label(task, "owl", status="tied")
    held = [task for task in accepted.held() if accepted.truth[task] != "owl"]
    told = _challenge(accepted, WEIGHT).metrics["controls"]["label"]
    assert (told["n"], told["automatic"]) == (6 - len(owls), len(held))
    assert told["classes_present"] == 2
