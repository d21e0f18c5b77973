from __future__ import annotations

from typing import Any

import pytest

from backend.reconciler import Reconciler
from backend.secrets import SECRET_HEADER
from backend.store import Store
from backend.tables import Task
from tests.backend.loop_project import Loop, MakeLoop
from tests.backend.small_label_studio import SmallLabelStudio
from tests.callers import WEBHOOK_SECRET

OURS = "http://backend.example:9090/webhook"
SECRET = {SECRET_HEADER: WEBHOOK_SECRET}


@pytest.fixture
def loop(make_loop: MakeLoop) -> Loop:
    return make_loop(public_url="http://backend.example:9090")


def hook(number: int, url: str, headers: dict[str, str] | None, project: int = 1) -> dict[str, Any]:
    return {"id": number, "url": url, "project": project, "headers": headers, "is_active": True}


def test_our_own_webhook_gets_the_secret_and_no_other_does(
    loop: Loop, small_label_studio: SmallLabelStudio
) -> None:
    old = {SECRET_HEADER.lower(): "the-secret-before", "X-Theirs": "kept"}
    small_label_studio.webhooks = [
        hook(1, OURS, {}),
        hook(2, f"{OURS}/", None),
        hook(3, OURS, old) | {"is_active": False},
        hook(4, "http://elsewhere.example:9090/webhook", {}),
        hook(5, "http://backend.example:9091/webhook", {}),
        hook(6, "https://backend.example:9090/webhook", {}),
        hook(7, "http://backend.example:9090/webhooks", {}),
        hook(8, "http://backend.example:9090@elsewhere.example/webhook", {}),
        hook(9, OURS, {}, project=2),
    ]
    loop.settle()
    headers = {h["id"]: h["headers"] for h in small_label_studio.webhooks}
    assert headers[1] == headers[2] == SECRET
    assert headers[3] == SECRET | {"X-Theirs": "kept"}
    assert [headers[n] or {} for n in range(4, 10)] == [{}] * 6
    # What somebody switched off stays off.
    assert [h["is_active"] for h in small_label_studio.webhooks[:3]] == [True, True, False]

    small_label_studio.webhooks[0]["headers"] = {}
    loop.settle()
    assert small_label_studio.webhooks[0]["headers"] == SECRET


def test_a_label_studio_that_refuses_is_logged_once_and_the_look_goes_on(
    loop: Loop,
    store: Store,
    small_label_studio: SmallLabelStudio,
    caplog: pytest.LogCaptureFixture,
) -> None:
    small_label_studio.webhooks = [{"no": "webhook"}]
    small_label_studio.add_task(1, (220, 30, 30))
    for _ in range(3):
        project = loop.settle()
        loop.reconciler = Reconciler(loop.tools, 1)
    assert project.error == ""
    with store.read() as session:
        assert session.get(Task, (1, 1)) is not None
    said = [r.getMessage() for r in caplog.records if "is not mended" in r.getMessage()]
    assert len(said) == 1
    assert WEBHOOK_SECRET not in caplog.text


def test_a_project_without_a_webhook_to_us_is_said_once(
    loop: Loop, small_label_studio: SmallLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    small_label_studio.webhooks = [hook(4, "http://elsewhere.example:9090/webhook", {})]
    for _ in range(3):
        loop.settle()
        loop.reconciler = Reconciler(loop.tools, 1)
    [said] = [r.getMessage() for r in caplog.records if "No webhook of it" in r.getMessage()]
    assert "TIEBREAK_PUBLIC_URL" in said
    small_label_studio.webhooks.append(hook(1, OURS, {}))
    loop.settle()
    assert small_label_studio.webhooks[0]["headers"] == {}
