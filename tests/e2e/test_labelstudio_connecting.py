"""Connecting a backend by the client, and a Label Studio that refuses or is down."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backend.errors import (
    BackendRefused,
    LabelStudioError,
    LabelStudioUnreachable,
)
from backend.labelstudio import LabelStudio, Task
from tests.e2e.conftest import SINGLE_CHOICE
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.plain_tasks import images, prediction
from tests.serving import serving
from tests.tiebreak_process import free_port


@pytest.fixture(scope="module")
def guarded(
    label_studio_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """A Label Studio of this file's own, to be restarted with other protections."""
    server = LabelStudioServer(tmp_path_factory.mktemp("guarded"), label_studio_template)
    yield server
    server.close()


@pytest.fixture
def ml_backend() -> Iterator[str]:
    """Address of a small backend that accepts every project."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.dumps({"status": "UP", "model_version": "v1"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def test_connecting_twice_leaves_one_backend_one_webhook_and_one_tab(
    client: LabelStudio, label_studio: LabelStudioServer, project: int, ml_backend: str
) -> None:
    hook = f"{ml_backend}/webhook"
    for secret in ("first", "second"):
        saved = client.save_backend(project, ml_backend, "Tiebreak", ("user", "password"))
        client.save_webhook(project, hook, {"X-Tiebreak-Secret": secret})
        view = client.save_view(project, "Tiebreak queue")
    [backend] = client.backends(project)
    assert (backend.id, backend.readable_state) == (saved.id, "Connected")
    assert (backend.auth_method, backend.title) == ("BASIC_AUTH", "Tiebreak")
    [webhook] = client.webhooks(project)
    assert webhook.url == hook
    assert webhook.headers == {"X-Tiebreak-Secret": "second"}
    assert webhook.is_active
    assert webhook.send_for_all_actions
    assert [v.title for v in client.views(project)] == ["Default", "Tiebreak queue"]
    assert view.data["ordering"] == ["tasks:predictions_score"]
    hidden = view.data["hiddenColumns"]["explore"]
    assert "tasks:inner_id" in hidden
    assert "tasks:predictions_score" not in hidden

    ids = label_studio.admin.import_tasks(project, images(3))
    scores = zip(ids, (0.9, 0.1, 0.4), strict=True)
    client.import_predictions(project, [prediction(i, "v1", s) for i, s in scores])
    client.update_project(project, model_version="v1")
    shown = label_studio.admin.get("/api/tasks", project=project, view=view.id)["tasks"]
    assert [task["id"] for task in shown] == [ids[1], ids[2], ids[0]]


def test_doubles_left_by_others_are_removed(
    client: LabelStudio, label_studio: LabelStudioServer, project: int, ml_backend: str
) -> None:
    hook = {"project": project, "url": f"{ml_backend}/webhook"}
    pasted = ml_backend.replace("127.0.0.1", "localhost")
    for address in (pasted, ml_backend, ml_backend):
        client.add_backend(project, address, "Tiebreak")
        label_studio.admin.post("/api/webhooks/", hook)
    assert {b.url for b in client.backends(project)} == {pasted, ml_backend}
    assert {w.url for w in client.webhooks(project)} == {f"{pasted}/webhook", hook["url"]}
    saved = client.save_backend(project, f"{ml_backend}/", "Tiebreak")
    assert [(b.id, b.url) for b in client.backends(project)] == [(saved.id, f"{ml_backend}/")]
    assert client.probe_backend(saved.id).readable_state == "Connected"
    webhook = client.save_webhook(project, hook["url"], {"X-Tiebreak-Secret": "s"})
    assert [(w.id, w.url) for w in client.webhooks(project)] == [(webhook.id, hook["url"])]
    client.delete_webhook(webhook.id)
    client.delete_backend(saved.id)
    client.delete_backend(saved.id)
    assert client.backends(project) == []
    assert client.webhooks(project) == []


def test_a_backend_that_is_down_is_told_from_a_refused_one(
    client: LabelStudio, project: int
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LabelStudioError) as caught:
        client.add_backend(project, address, "Tiebreak")
    assert not isinstance(caught.value, BackendRefused)
    assert address in caught.value.message
    assert f"{address}/health" in caught.value.mend
    with pytest.raises(LabelStudioError) as caught:
        client.add_backend(project, "http://no-such-host.invalid", "Tiebreak")
    assert "TIEBREAK_PUBLIC_URL" in caught.value.mend
    assert client.backends(project) == []


def assert_refused_without_a_trace(server: LabelStudioServer, ml_backend: str) -> None:
    with LabelStudio(server.url, server.token) as client:
        project = client.create_project("Refused", SINGLE_CHOICE).id
        for _ in range(2):
            with pytest.raises(BackendRefused) as caught:
                client.save_backend(project, ml_backend, "Tiebreak")
        for word in ("ML_BLOCK_LOCAL_IP=false", "SSRF_PROTECTION_ENABLED=false"):
            assert word in caught.value.mend
        assert caught.value.status == 403
        assert client.backends(project) == []
        with pytest.raises(BackendRefused):
            client.save_webhook(project, f"{ml_backend}/webhook")
        assert client.webhooks(project) == []


def test_the_private_address_refusal_is_explained(
    guarded: LabelStudioServer, ml_backend: str
) -> None:
    guarded.start_with(SSRF_PROTECTION_ENABLED="true", ML_BLOCK_LOCAL_IP="true")
    assert_refused_without_a_trace(guarded, ml_backend)


def test_down_restarted_and_frozen_label_studio(
    guarded: LabelStudioServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    guarded.start_with()
    personal = guarded.personal_token
    with (
        LabelStudio(guarded.url, guarded.token) as client,
        LabelStudio(guarded.url, personal, timeout=0.5) as hasty,
    ):
        project = client.create_project("Restarted", SINGLE_CHOICE).id
        client.import_tasks(project, images(2))
        before: list[Task] = list(client.tasks(project))
        hasty.authorization()
        guarded.pause()
        with pytest.raises(LabelStudioUnreachable, match="did not answer within"):
            hasty.version()
        guarded.resume()
        guarded.stop()
        with pytest.raises(LabelStudioUnreachable) as caught:
            client.project(project)
        assert guarded.url in str(caught.value)
        guarded.start_with(ML_BLOCK_LOCAL_IP="false")
        assert list(client.tasks(project)) == before
    assert guarded.token not in caplog.text
    assert personal not in caplog.text


def test_the_orphan_of_a_half_refusal_is_deleted(
    guarded: LabelStudioServer, ml_backend: str
) -> None:
    guarded.start_with(SSRF_PROTECTION_ENABLED="true", ML_BLOCK_LOCAL_IP="false")
    assert_refused_without_a_trace(guarded, ml_backend)
