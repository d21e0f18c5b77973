"""A real server and a real trainer: what they log, and what Prometheus reads of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.backend.loop_project import CLASSES, config, fill
from tests.backend.raw_nonsense import send
from tests.backend.real_server import (
    SECRETS,
    RealServer,
    write_weights,
)
from tests.backend.small_label_studio import SmallLabelStudio
from tests.serving import serving
from tests.tiebreak_process import start, stop

SECONDS = 120.0
PICTURES, LABELLED = 12, 9
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Session:
    """Both processes' logs, and the figures at the end."""

    server: list[dict[str, Any]]
    trainer: list[dict[str, Any]]
    text: str
    figures: Samples

    def figure(self, name: str, **labels: str) -> float:
        return self.figures[(name, frozenset(labels.items()))]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A project is set up and learned, then come requests that carry secrets."""
    folder = tmp_path_factory.mktemp("real")
    write_weights(folder)
    with serving(SmallLabelStudio()) as studio:
        fill(studio, PICTURES, LABELLED)
        changes = {"TIEBREAK_AUDIT_SHARE": "0", "TIEBREAK_MIN_NEW_LABELS": "1"}
        server = RealServer(folder, LABEL_STUDIO_URL=studio.url, **changes).start()
        trainer = start("trainer", folder / "trainer.log", server.variables)
        try:
            _set_up(server)
            _wait_until_pushed(server)
            _send_secrets(server)
            figures = parsed(server)
        finally:
            try:
                stop(trainer)
            finally:
                server.stop()
    logs = [folder / f"{name}.log" for name in ("server", "trainer")]
    text = "".join(log.read_text() for log in logs)
    return Session(lines_of(logs[0]), lines_of(logs[1]), text, figures)


def _set_up(server: RealServer) -> None:
    body = {"project": "1.17", "schema": config(*CLASSES), "access_token": "planted"}
    answer = server.client.post("/setup", json=body, headers={"X-Request-ID": "set-up-1"})
    assert answer.status_code == 200


def _wait_until_pushed(server: RealServer) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = parsed(server)
        pushed = ("tiebreak_queue_tasks", frozenset({("project", "1"), ("pushed", "yes")}))
        champion = ("tiebreak_champion_version", frozenset({("project", "1")}))
        if found.get(champion) == 1 and found.get(pushed) == PICTURES - LABELLED:
            return
        time.sleep(0.3)
    raise AssertionError(server.log.with_name("trainer.log").read_text())


def _send_secrets(server: RealServer) -> None:
    signed = "http://127.0.0.1:1/x.png?X-Amz-Signature=planted-signature"
    tasks = [{"id": 99, "data": {"image": signed}}, {"id": 1, "data": {"image": "/data/1"}}]
    body = {"tasks": tasks, "project": "1.17"}
    assert server.client.post("/predict", json=body).status_code == 200
    wrong = {"Authorization": "Basic cGxhbnRlZDpwbGFudGVk", "X-Tiebreak-Secret": "planted-wrong"}
    hook = {"action": "TASKS_CREATED", "project": {"id": 1}}
    server.client.post("/webhook", json=hook, headers=wrong)
    server.client.get("/api/projects/77?api_key=planted-key")
    send(server.port, b"GET / HTTP/1.1\r\nAuthorization: Basic planted\x01\r\n\r\n")
    send(server.port, b"GET /?planted=1 HTTP/1.1\r\nplanted header\r\n\r\n")


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Every line of a log, each of which must be JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def parsed(server: RealServer) -> Samples:
    text = server.client.get("/metrics").raise_for_status().text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_line_is_json_with_its_fields(session: Session) -> None:
    wanted = {
        *("time", "level", "logger", "message"),
        *("request_id", "project", "process", "pid"),
    }
    for process in ("server", "trainer"):
        lines = getattr(session, process)
        assert lines
        assert all(wanted <= line.keys() for line in lines)
        assert {line["process"] for line in lines} == {process}
    loggers = {line["logger"] for line in session.server}
    assert {"gunicorn.error", "backend.web_errors", "backend.gunicorn_worker"} <= loggers


def test_no_secret_is_in_any_line(session: Session) -> None:
    # All that is secret in this session is called so.
    assert all("planted" in secret for secret in SECRETS)
    assert "planted" not in session.text
    assert "cGxhbnRlZ" not in session.text
    assert "http://127.0.0.1:1/x.png" in session.text


def test_the_trainer_names_the_request_that_it_follows(session: Session) -> None:
    for words in ("tasks added", "trained v1"):
        found = [line for line in session.trainer if words in line["message"]]
        assert [line["request_id"] for line in found] == ["set-up-1"], words
        assert found[0]["project"] == 1


def test_prometheus_reads_both_processes(session: Session) -> None:
    figure = session.figure
    assert figure("tiebreak_http_requests_total", method="POST", route="/setup", status="200") == 1
    assert figure("tiebreak_http_requests_total", method="other", route="(not HTTP)", status="400")
    assert figure("tiebreak_http_request_seconds_count", route="/predict") == 1
    assert figure("tiebreak_images_fetched_total", process="trainer") == PICTURES
    # Of three colours, with the labelled tasks, and again when the rest turn out to show them too.
    assert figure("tiebreak_images_embedded_total", process="trainer") == len(CLASSES)
    assert figure("tiebreak_fetch_failures_total", process="server", cause="address refused") == 1
    assert figure("tiebreak_predictions_total", source="cached") == 1
    assert figure("tiebreak_predictions_total", source="missing") == 1
    assert figure("tiebreak_embedding_lookups_total", result="hit") == 1
    assert figure("tiebreak_embedding_lookups_total", result="miss") == 1
    assert figure("tiebreak_trainer_steps_total", step="train", outcome="done") == 1
    assert figure("tiebreak_training_seconds_count", outcome="kept") == 1
    assert figure("tiebreak_labels", project="1") == LABELLED
    assert figure("tiebreak_labels_waiting", project="1") == 0
    assert figure("tiebreak_versions", project="1", outcome="kept") == 1
    assert figure("tiebreak_trainers") == 1
    assert figure("tiebreak_database_up") == 1
