"""What Prometheus is told: each figure by hand, and the page of documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from backend.errors import CAUSES
from backend.finetuning import FineTuning
from backend.image_steps import ImageSteps
from backend.metrics import REGISTRY
from backend.metrics_database import FAMILIES, DatabaseFigures
from backend.metrics_files import SharedCounts, begin_run
from backend.outlook_steps import OutlookSteps
from backend.promise_steps import PromiseSteps
from backend.quality_steps import QualitySteps
from backend.queue_steps import QueueSteps
from backend.reconciler import Reconciler
from backend.store import Store
from backend.tables import (
    Hint,
    Label,
    Lease,
    Project,
    Task,
    TrainerProcess,
    Trouble,
    Version,
)
from tests.backend.conftest import Tables
from tests.backend.queue_of import bare_order

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Name and labels → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(client: FlaskClient) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return parsed(answer.text)


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def documented() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Metric → type, labels and meaning, as the page has them."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]+) \| ((?:[^|]|\\\|)+) \| .+ \|$", PAGE.read_text(), re.M
    )
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    }


def known() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """The same, as the code has them."""
    counted = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            metric._labelnames,  # type: ignore[attr-defined]
            family.documentation,
        )
        for metric in REGISTRY._collector_to_names
        for family in metric.describe()  # type: ignore[attr-defined]
    }
    read = {name: ("gauge", labels, meaning) for name, (meaning, labels) in FAMILIES.items()}
    return {**counted, **read}


def test_the_page_and_the_code_agree() -> None:
    page, code = documented(), known()
    assert sorted(page) == sorted(code)
    for name, (kind, labels, meaning) in code.items():
        assert page[name][:2] == (kind, labels), name
        assert page[name][2].startswith(meaning), name


def test_the_page_names_every_cause_and_step() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"`([a-z_ ]+)`", text))
    assert set(CAUSES) <= named
    steps = re.search(r"by name: (.+?) \|", text)
    assert steps
    rooms: tuple[type, ...] = (Reconciler, QueueSteps, ImageSteps, OutlookSteps)
    rooms += (FineTuning, QualitySteps, PromiseSteps)
    for step in re.findall(r"`(\w+)`", steps[1]):
        assert any(hasattr(room, step) or hasattr(room, f"_{step}") for room in rooms), step


def test_every_counter_has_a_label() -> None:
    # One without would begin to count before the process knows where its files are.
    assert all(metric._labelnames for metric in REGISTRY._collector_to_names)  # type: ignore[attr-defined]


def test_requests_count_by_template(client: FlaskClient) -> None:
    before = scrape(client)
    for number in (1, 2, 3):
        client.get(f"/api/projects/{number}")
    client.get("/nowhere/at/all")
    client.open("/health", method="BREW")
    after = scrape(client)

    def grown(**labels: str) -> float:
        name = "tiebreak_http_requests_total"
        return of(after, name, **labels) - of(before, name, **labels)

    template = "/api/projects/<int:project_id>"
    assert grown(method="GET", route=template, status="404") == 3
    assert grown(method="GET", route="(no route)", status="404") == 1
    assert grown(method="other", route="(no route)", status="405") == 1
    assert grown(method="GET", route="/metrics", status="200") == 1
    routes = {dict(labels).get("route") for _, labels in after}
    assert not any("nowhere" in str(route) for route in routes)
    count = "tiebreak_http_request_seconds_count"
    assert of(after, count, route=template) - of(before, count, route=template) == 3


def test_webhooks_count_by_action(client: FlaskClient, tables: Tables) -> None:
    before = scrape(client)
    for action in ("ANNOTATION_CREATED", "ANNOTATION_CREATED", "START_TRAINING", "<script>"):
        client.post("/webhook", json={"action": action, "project": {"id": 1}})
    client.post("/webhook", json={"action": "TASKS_CREATED"})
    after = scrape(client)
    name = "tiebreak_webhooks_total"
    grown = {
        action: of(after, name, action=action) - of(before, name, action=action)
        for action in ("ANNOTATION_CREATED", "START_TRAINING", "TASKS_CREATED", "other")
    }
    assert grown == {
        "ANNOTATION_CREATED": 2,
        "START_TRAINING": 1,
        "TASKS_CREATED": 0,
        "other": 1,
    }


def test_what_the_database_knows(client: FlaskClient, tables: Tables, store: Store) -> None:
    now = time.time()
    for task in range(1, 7):
        tables.task(task, np.ones(16))
    for task, learned in ((1, ["cat"]), (2, ["dog"]), (3, None)):
        tables.label(task, "cat")
        with store.write() as session:
            session.get_one(Label, (1, task, "label")).learned = learned
    tables.label(4, status="gone")
    with store.write() as session:
        # Still to be forgotten, and nothing to be learned from.
        session.get_one(Label, (1, 4, "label")).learned = ["owl"]
        session.get_one(Task, (1, 4)).is_labeled = False
        project = session.get_one(Project, 1)
        project.champion, project.failures, project.error = 2, 4, "no"
        session.add(Project(id=5, connected_at=0.0))
        session.add(Project(id=6, connected_at=0.0, gone=True))
        session.add(Project(id=7, connected_at=0.0))
        session.add(Trouble(project_id=7, step="train", failures=4, reason="no", parked_at=now))
        session.add(Trouble(project_id=5, step="train", failures=1, reason="no"))
        for number, kept in ((1, True), (2, True), (3, False)):
            session.add(version(number, kept))
        for number in (0, 1):
            session.add(bare_order(1, 2, number))
        for task, pushed in ((4, (2, 1, 0.5)), (5, (2, 0, 0.1)), (6, (2, 1, None))):
            row = session.get_one(Task, (1, task))
            row.pushed_version, row.pushed_order, row.pushed_score = pushed
        for at in (now - 50, now - 20):
            session.add(Hint(project_id=1, action="x", task_ids=None, created_at=at))
        session.add(Lease(project_id=1, owner="a", heartbeat_at=now - 10))
        session.add(Lease(project_id=5, owner="b", heartbeat_at=now - 1000))
        session.add(TrainerProcess(owner="a", heartbeat_at=now - 10))
        session.add(TrainerProcess(owner="b", heartbeat_at=now - 1000))
    found = scrape(client)
    wanted = {
        ("tiebreak_database_up",): 1,
        ("tiebreak_projects", ("state", "working")): 1,
        ("tiebreak_projects", ("state", "failing")): 1,
        ("tiebreak_projects", ("state", "parked")): 1,
        ("tiebreak_projects", ("state", "gone")): 1,
        ("tiebreak_project_failures", ("project", "1")): 4,
        ("tiebreak_queue_tasks", ("project", "1"), ("pushed", "yes")): 1,
        ("tiebreak_queue_tasks", ("project", "1"), ("pushed", "no")): 2,
        ("tiebreak_labels", ("project", "1")): 3,
        ("tiebreak_labels_waiting", ("project", "1")): 3,
        ("tiebreak_champion_version", ("project", "1")): 2,
        ("tiebreak_versions", ("project", "1"), ("outcome", "kept")): 2,
        ("tiebreak_versions", ("project", "1"), ("outcome", "refused")): 1,
        ("tiebreak_hints_waiting", ("project", "1")): 2,
        ("tiebreak_lease_held", ("project", "1")): 1,
        ("tiebreak_lease_held", ("project", "5")): 0,
        ("tiebreak_lease_held", ("project", "6")): 0,
        ("tiebreak_trainers",): 1,
    }
    for (name, *labels), value in wanted.items():
        assert found[(name, frozenset(labels))] == value, (name, labels)
    for name, age, labels in (
        ("tiebreak_oldest_hint_age_seconds", 50, {"project": "1"}),
        ("tiebreak_lease_heartbeat_age_seconds", 1000, {"project": "5"}),
        ("tiebreak_trainer_heartbeat_age_seconds", 10, {}),
    ):
        assert age <= of(found, name, **labels) < age + 60


def version(number: int, kept: bool) -> Version:
    return Version(
        project_id=1,
        number=number,
        created_at=0.0,
        kept=kept,
        reason="",
        labels=1,
        backbone="b",
        metrics={},
    )


def test_a_database_that_is_gone_is_told_of(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'empty.db'}")
    registry = CollectorRegistry()
    registry.register(DatabaseFigures(store, 30))
    assert registry.get_sample_value("tiebreak_database_up") == 0
    store.close()


def test_a_database_that_cannot_be_opened_is_told_of(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    path = tmp_path / "tiebreak.db"
    registry.register(DatabaseFigures(Store(f"sqlite:///{path}"), 30.0))
    path.mkdir()
    assert registry.get_sample_value("tiebreak_database_up") == 0


COUNT = """
import os, sys, time
from pathlib import Path
from backend import metrics_files
from backend.metrics import WEBHOOKS, count_embedded, count_webhook
metrics_files.begin_run(Path(sys.argv[1]), sys.argv[2])
for worker in range(2):
    if os.fork() == 0:
        metrics_files.share_counts()
        for _ in range(3 + worker):
            count_webhook("TASKS_CREATED")
        count_embedded(5, 0.3)
        os._exit(0)
os.wait(), os.wait()
print("counted", flush=True)
sys.stdin.read()
"""


def test_the_counts_of_all_processes_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    registry = CollectorRegistry()
    registry.register(SharedCounts(tmp_path / "metrics"))
    value = registry.get_sample_value

    def run(process: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", COUNT, str(tmp_path), process]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert child.stdout
        assert child.stdout.readline() == "counted\n"
        return child

    with run("server") as server, run("trainer") as trainer:
        assert value("tiebreak_webhooks_total", {"action": "TASKS_CREATED"}) == 14
        for process in ("server", "trainer"):
            labels = {"process": process}
            assert value("tiebreak_images_embedded_total", labels) == 10
            assert value("tiebreak_embedding_seconds_count", labels) == 2
            assert value("tiebreak_embedding_seconds_sum", labels) == pytest.approx(0.6)
            assert value("tiebreak_embedding_seconds_bucket", {**labels, "le": "0.25"}) == 0
            assert value("tiebreak_embedding_seconds_bucket", {**labels, "le": "0.5"}) == 2
        server.kill()
        server.wait()
        # Whoever starts next clears away what the dead one left, and nothing of the living.
        with run("server") as again:
            assert value("tiebreak_webhooks_total", {"action": "TASKS_CREATED"}) == 14
            assert len(list((tmp_path / "metrics").iterdir())) == 2
            again.communicate("")
        trainer.communicate("")


def test_a_folder_that_cannot_be_made_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    (tmp_path / "metrics").write_text("in the way")
    begin_run(tmp_path, "server")
    assert "counts are not shared" in caplog.text
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
