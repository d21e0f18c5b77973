"""The model for hosts that run label-studio-ml 2 answers as the server does.

The package itself cannot be installed from the package index, so these tests run without it; what
they cannot show is that it takes the class as it is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from backend import sdk
from backend.errors import LabelConfigError, SetupError
from backend.sdk import Tiebreak
from backend.settings import Settings
from backend.store import Store
from backend.tables import Hint, Project
from tests.backend.conftest import SINGLE, Tables
from tests.backend.saved_versions import embed_again, save_version

Json = dict[str, Any]


@pytest.fixture
def served(
    tables: Tables, settings: Settings, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tables]:
    """Six embedded tasks and a version that tells their classes apart; the host has the settings
    of the server."""
    tables.clusters(6)
    embed_again(tables)
    weights = np.vstack([4 * np.eye(3), np.zeros((13, 3))]).astype(np.float32)
    save_version(tables, settings, 1, weights=weights)
    monkeypatch.setattr(sdk, "load_settings", lambda: settings)
    sdk.services.cache_clear()
    yield tables
    sdk.services().store.close()
    sdk.services.cache_clear()


def _tasks(*numbers: int) -> list[Json]:
    return [{"id": n, "data": {"image": f"/data/{n}.png"}} for n in numbers]


def _model() -> Tiebreak:
    return Tiebreak(project_id="1", label_config=SINGLE)


def _hints(store: Store) -> list[tuple[str, list[int] | None]]:
    with store.read() as session:
        return [(hint.action, hint.task_ids) for hint in session.scalars(select(Hint))]


def test_predictions_are_those_of_the_server(served: Tables, client: FlaskClient) -> None:
    tasks = _tasks(3, 1, 2, 6, 99)
    answer = client.post(
        "/predict", json={"tasks": tasks, "project": "1.1", "label_config": SINGLE, "params": {}}
    )
    found = _model().predict(tasks, context=None, login=None, password=None)
    assert found == answer.json["results"]
    ticked = [p["result"][0]["value"]["choices"] for p in found if p["result"]]
    assert ["owl"] in ticked or ["cat"] in ticked
    assert len(found) == 5


def test_the_model_version_is_what_setup_answers(served: Tables, client: FlaskClient) -> None:
    answer = client.post("/setup", json={"project": "1.1", "schema": SINGLE})
    assert _model().get("model_version") == answer.json["model_version"]


def test_an_event_becomes_the_hint_that_a_webhook_becomes(
    served: Tables, client: FlaskClient
) -> None:
    data = {
        "project": {"id": 1, "title": "Test", "label_config": SINGLE},
        "task": {"id": 4, "data": {}},
        "annotation": {"id": 9, "task": 4, "result": []},
    }
    assert client.post("/webhook", json={**data, "action": "ANNOTATION_CREATED"}).status_code == 200
    assert _model().fit("ANNOTATION_CREATED", data, job_id="7") == {"status": "noted"}
    assert _hints(served.store) == [("ANNOTATION_CREATED", [4])] * 2


def test_start_training_asks_for_a_training(served: Tables) -> None:
    assert served.project().train_requested_at is None
    data = {"action": "START_TRAINING", "project": {"id": 1}}
    assert _model().fit("START_TRAINING", data) == {"status": "noted"}
    assert served.project().train_requested_at is not None


def test_our_own_update_of_the_project_starts_nothing(served: Tables) -> None:
    data = {"project": {"id": 1, "title": "Test", "label_config": SINGLE}}
    assert _model().fit("PROJECT_UPDATED", data) == {"status": "nothing to do"}
    assert _hints(served.store) == []


def test_a_new_project_is_registered_with_its_config(served: Tables) -> None:
    assert Tiebreak("2", SINGLE).get("model_version") == "v0"
    with served.store.read() as session:
        assert session.get_one(Project, 2).label_config == SINGLE


def test_what_cannot_be_used_is_refused_with_a_sentence(served: Tables) -> None:
    with pytest.raises(LabelConfigError, match="nothing to learn"):
        Tiebreak("1", "<View/>")
    with pytest.raises(SetupError, match="project"):
        Tiebreak("one", SINGLE)
    with pytest.raises(SetupError, match="without a project"):
        Tiebreak().predict(_tasks(1))
    with pytest.raises(SetupError, match="tasks"):
        _model().predict([{"id": "x"}])
    with pytest.raises(SetupError, match="project"):
        _model().fit("ANNOTATION_CREATED", {})


def test_every_event_that_names_a_change_is_one_to_learn_from() -> None:
    wanted = {"ANNOTATION_CREATED", "ANNOTATIONS_DELETED", "START_TRAINING", "TASKS_CREATED"}
    assert wanted < set(Tiebreak.TRAIN_EVENTS)


def test_it_is_imported_without_the_package_and_without_torch() -> None:
    code = (
        "import sys; sys.modules['label_studio_ml'] = None\n"
        "from backend.sdk import Tiebreak\n"
        "assert 'torch' not in sys.modules\n"
        "assert Tiebreak().project_id == ''"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
