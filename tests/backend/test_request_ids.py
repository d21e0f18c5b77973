"""The id of a request: answered, logged, kept with its hint, and followed by the trainer."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from backend.log_context import exported, log_context, log_fields
from backend.log_formats import JsonFormatter
from backend.request_ids import REQUEST_ID_HEADER, accepted
from backend.store import Store
from backend.tables import Hint, Project
from tests.backend.loop_project import CLASSES, Loop, MakeLoop, fill
from tests.backend.small_label_studio import SmallLabelStudio

GOOD = re.compile(r"[0-9a-f]{16}")
HOOK = {"action": "START_TRAINING", "project": {"id": 1, "title": "Test"}}


@pytest.fixture
def lines() -> Iterator[list[dict[str, object]]]:
    """What is logged, as the JSON lines of a server."""
    found: list[dict[str, object]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(JsonFormatter("server").format(record)))

    handler, root = Keep(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield found
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.mark.parametrize("sent", ["a", "A.b_c-9", "x" * 64])
def test_a_well_formed_id_is_taken(client: FlaskClient, sent: str) -> None:
    answer = client.get("/health", headers={REQUEST_ID_HEADER: sent})
    assert answer.headers[REQUEST_ID_HEADER] == sent
    missing = client.get("/nowhere", headers={REQUEST_ID_HEADER: sent})
    assert (missing.json["request_id"], missing.headers[REQUEST_ID_HEADER]) == (sent, sent)


@pytest.mark.parametrize("sent", [None, "", "x" * 65, "a b", "ä", "a/b", "<script>", "a,b"])
def test_any_other_is_made(client: FlaskClient, sent: str | None) -> None:
    headers = {} if sent is None else {REQUEST_ID_HEADER: sent}
    answers = [client.get("/health", headers=headers) for _ in range(2)]
    made = [str(answer.headers[REQUEST_ID_HEADER]) for answer in answers]
    assert all(GOOD.fullmatch(each) for each in made)
    assert made[0] != made[1]


@given(st.text(max_size=80))
def test_what_is_accepted_is_always_harmless(sent: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", accepted(sent))


def test_each_line_of_a_request_carries_it(
    client: FlaskClient, lines: list[dict[str, object]]
) -> None:
    client.post("/predict", json={"tasks": []}, headers={REQUEST_ID_HEADER: "first"})
    client.post("/webhook", json={}, headers={REQUEST_ID_HEADER: "second"})
    assert [line["request_id"] for line in lines] == ["first", "second"]
    assert log_fields() == {}


def test_the_threads_that_fetch_images_carry_it(loop: Loop, lines: list[dict[str, object]]) -> None:
    with log_context(request_id="fetching"):
        loop.settle()
    failed = [line for line in lines if "no image" in str(line["message"])]
    assert [line["request_id"] for line in failed] == ["fetching"]


@pytest.fixture
def loop(make_loop: MakeLoop, small_label_studio: SmallLabelStudio) -> Loop:
    """Ten pictures, one of which cannot be had."""
    studio = small_label_studio
    fill(studio, 10)
    studio.pictures[3] = b"no picture"
    return make_loop(label_studio_url=studio.url, audit_share=0.0, quiet_seconds=0.0)


def test_a_hint_keeps_it_and_the_trainer_follows_it(
    client: FlaskClient,
    store: Store,
    loop: Loop,
    small_label_studio: SmallLabelStudio,
    lines: list[dict[str, object]],
) -> None:
    for task in (1, 2, 4, 5):
        name = CLASSES[task % 3]
        small_label_studio.annotate(task, label=[name])
    for sent in ("earlier", "later"):
        client.post("/webhook", json=HOOK, headers={REQUEST_ID_HEADER: sent})
    with store.read() as session:
        kept = session.scalars(select(Hint.request_id).order_by(Hint.id)).all()
    assert kept[-2:] == ["earlier", "later"]
    lines.clear()
    loop.settle()
    said = {
        word: [line for line in lines if word in str(line["message"])]
        for word in ("tasks added", "no image", "trained v1")
    }
    for found in said.values():
        assert found, said
        for line in found:
            assert (line["request_id"], line["request_ids"]) == ("later", ["earlier", "later"])
    with store.read() as session:
        assert session.get_one(Project, 1).following == []
        assert session.scalars(select(Hint)).all() == []


def test_labels_that_wait_keep_it_until_they_are_learned(
    client: FlaskClient, store: Store, loop: Loop, small_label_studio: SmallLabelStudio
) -> None:
    small_label_studio.annotate(1, label=["dog"])
    hook = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": {"id": 1}}
    client.post("/webhook", json=hook, headers={REQUEST_ID_HEADER: "waits"})
    project = loop.settle()
    assert "changed labels" in project.waiting
    assert project.following == ["waits"]


def test_a_child_process_takes_it_over() -> None:
    code = (
        "from backend.log_context import imported, log_fields\n"
        "with imported(): print(dict(log_fields()))"
    )
    with log_context(request_id="abc", project=7):
        env = exported()
    told = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "{'request_id': 'abc', 'project': 7}"
