from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from backend.champion import Champions
from backend.experiment_log import flush, headline_numbers
from backend.lease import Leases
from backend.settings import Settings
from backend.store import Store
from backend.training import TrainingReport, train
from tests.backend.conftest import BACKBONE, Tables


@pytest.fixture
def leases(store: Store, tables: Tables) -> Leases:
    made = Leases(store, "test", 30)
    assert made.acquire(1)
    return made


def learn(tables: Tables, leases: Leases, settings: Settings, uri: str) -> TrainingReport:
    for task_id, name in enumerate(tables.clusters(60), start=1):
        tables.label(task_id, name)
    told = settings.model_copy(update={"mlflow_tracking_uri": uri, "audit_share": 0.5})
    champion = Champions(tables.store, settings.data_dir).get(1)
    report = train(tables.store, leases, told, 1, BACKBONE, champion)
    assert flush(120)
    return report


# MLflow's own use of SQLAlchemy and of its models warns of things to come.
@pytest.mark.filterwarnings("ignore")
def test_a_version_becomes_a_run(
    tables: Tables, leases: Leases, settings: Settings, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    report = learn(tables, leases, settings, uri)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiebreak/Test")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("v1", "FINISHED")
    assert run.data.params["backbone"] == BACKBONE
    assert run.data.params["labels"] == "60"
    assert run.data.params["seed"] == "0"
    assert len(run.data.params["labels_digest"]) == 64
    assert run.data.tags["tiebreak.kept"] == "true"
    assert run.data.tags["tiebreak.reason"] == report.reason
    found = report.metrics["measures"]["label"]["held_out"]
    assert run.data.metrics["label/held_out/accuracy"] == found["accuracy"]["value"]
    assert run.data.metrics["label/held_out/accuracy_low"] == found["accuracy"]["low"]
    assert run.data.metrics["label/held_out/labels"] == found["n"]
    assert run.data.metrics["gate/promote"] == 1


@pytest.mark.filterwarnings("ignore")
def test_an_mlflow_that_is_not_there_harms_nothing(
    tables: Tables, leases: Leases, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "backend.experiment_log"):
        report = learn(tables, leases, settings, "http://127.0.0.1:9")
    assert (report.version, report.kept) == (1, True)
    assert "Check MLFLOW_TRACKING_URI" in caplog.text


def test_a_missing_package_is_named(
    tables: Tables,
    leases: Leases,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("backend.experiment_log._SENDER._warned", False)
    with caplog.at_level(logging.WARNING, "backend.experiment_log"):
        assert learn(tables, leases, settings, "http://127.0.0.1:9").kept
    assert "-m pip install mlflow-skinny, or unset" in caplog.text


def test_nothing_is_sent_where_no_mlflow_is_named(
    tables: Tables, leases: Leases, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert learn(tables, leases, settings, "").kept
    assert "MLflow" not in caplog.text


def test_names_are_what_mlflow_takes() -> None:
    number = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
    unknown = {"value": None, "low": None, "high": None, "n": 3, "reason": "cannot tell yet"}
    metrics = {
        "measures": {"Tier (Größe)": {"held_out": {"n": 40, "accuracy": number, "ece": unknown}}},
        "gate": {"n": 40, "promote": False, "reason": "…", "score": None, "gained_ids": [1]},
        "seconds": 2,
    }
    assert dict(headline_numbers(metrics)) == {
        "Tier _Gr__e_/held_out/labels": 40,
        "Tier _Gr__e_/held_out/accuracy": 0.5,
        "Tier _Gr__e_/held_out/accuracy_low": 0.4,
        "Tier _Gr__e_/held_out/accuracy_high": 0.6,
        "gate/n": 40,
        "gate/promote": 0,
        "seconds": 2,
    }
