from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from backend.hints import pending_look
from backend.store import Store
from backend.tables import Project

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""
NOTHING_TO_LEARN = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="cat"/></RectangleLabels></View>"""


def _setup(client: FlaskClient, xml: str = CONFIG, project: str = "7.1795313858") -> Any:
    return client.post(
        "/setup",
        json={
            "project": project,
            "schema": xml,
            "hostname": "http://localhost:8080",
            "access_token": "x",
            "extra_params": None,
        },
    )


def test_health(client: FlaskClient) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.json["status"]) == (200, "UP")


def test_setup_registers_the_project(client: FlaskClient, store: Store) -> None:
    answer = _setup(client)
    assert (answer.status_code, answer.json) == (200, {"model_version": "v0"})
    with store.read() as session:
        assert session.get_one(Project, 7).label_config == CONFIG
    look = pending_look(store, 7)
    assert look is not None
    assert look.everything


def test_setup_refuses_a_config_with_nothing_to_learn(client: FlaskClient, store: Store) -> None:
    answer = _setup(client, NOTHING_TO_LEARN)
    assert answer.status_code == 400
    assert answer.json["code"] == "nothing_to_learn"
    assert "<Choices" in answer.json["message"] + answer.json["mend"]
    with store.read() as session:
        assert session.get(Project, 7) is None


def test_a_refusal_is_told_in_the_status_line_too(client: FlaskClient) -> None:
    # Label Studio shows people the status line, as HTML, and never the body.
    xml = NOTHING_TO_LEARN.replace('name="box"', 'name="Kästen&lt;b&gt;&#10;x"')
    status = _setup(client, xml).status
    assert status == (
        "400 The labelling config has nothing to learn. Left alone: "
        'RectangleLabels "K stenb x": not a Choices control. '
        "Needed is a Choices with at least two Choice that points at an Image"
    )


def test_predict_without_a_model_answers_a_fixed_random_order(client: FlaskClient) -> None:
    _setup(client)
    tasks = [{"id": n, "data": {"image": f"/data/upload/7/{n}.png"}} for n in range(1, 51)]
    body = {"tasks": tasks, "project": "7.1795313858", "label_config": CONFIG, "params": {}}
    first, again = client.post("/predict", json=body), client.post("/predict", json=body)
    results = first.json["results"]
    assert results == again.json["results"]
    assert len(results) == 50
    assert {r["model_version"] for r in results} == {"v0"}
    assert all(0 <= r["score"] < 1 and r["result"] == [] for r in results)
    assert len({r["score"] for r in results}) == 50


PROJECT = {"id": 7, "title": "t", "label_config": CONFIG}
WEBHOOKS: list[tuple[dict[str, Any], tuple[int, ...] | None]] = [
    ({"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "task": {"id": 5}}, (5,)),
    ({"action": "ANNOTATION_UPDATED", "annotation": {"id": 1, "task": 5}}, (5,)),
    (
        {
            "action": "ANNOTATIONS_CREATED",
            "annotation": [{"id": 1}, {"id": 2}],
            "task": [{"id": 5}, {"id": 6}],
        },
        (5, 6),
    ),
    ({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]}, None),
    ({"action": "TASKS_CREATED", "tasks": [{"id": 8}, {"id": 9}]}, (8, 9)),
    ({"action": "TASKS_DELETED", "tasks": [{"id": 8}]}, (8,)),
    ({"action": "START_TRAINING"}, None),
    ({"action": "SOMETHING_NEW"}, None),
]


@pytest.mark.parametrize(("body", "task_ids"), WEBHOOKS, ids=lambda v: str(v)[:40])
def test_every_action_becomes_a_hint(
    client: FlaskClient, store: Store, body: dict[str, Any], task_ids: tuple[int, ...] | None
) -> None:
    _setup(client)
    before = pending_look(store, 7)
    assert before is not None
    with store.write() as session:
        from backend.tables import Hint

        for hint in session.scalars(select(Hint)):
            session.delete(hint)
    answer = client.post("/webhook", json={**body, "project": PROJECT})
    assert answer.status_code == 200
    look = pending_look(store, 7)
    assert look is not None
    assert (look.task_ids or None) == task_ids
    assert look.everything == (task_ids is None)
    with store.read() as session:
        asked = session.get_one(Project, 7).train_requested_at is not None
    assert asked == (body["action"] == "START_TRAINING")


def test_our_own_project_updates_never_lead_to_anything(client: FlaskClient, store: Store) -> None:
    _setup(client)
    before = pending_look(store, 7)
    answer = client.post("/webhook", json={"action": "PROJECT_UPDATED", "project": PROJECT})
    assert answer.status_code == 200
    assert pending_look(store, 7) == before
    with store.read() as session:
        assert session.get_one(Project, 7).train_requested_at is None


def test_a_new_config_is_a_hint(client: FlaskClient, store: Store) -> None:
    _setup(client)
    before = pending_look(store, 7)
    changed = {**PROJECT, "label_config": CONFIG.replace("dog", "hound")}
    client.post("/webhook", json={"action": "PROJECT_UPDATED", "project": changed})
    assert pending_look(store, 7) != before
    with store.read() as session:
        assert session.get_one(Project, 7).train_requested_at is None


def test_a_webhook_of_a_project_never_seen_registers_it(client: FlaskClient, store: Store) -> None:
    client.post(
        "/webhook", json={"action": "TASKS_CREATED", "project": PROJECT, "tasks": [{"id": 1}]}
    )
    with store.read() as session:
        assert session.get_one(Project, 7).label_config == CONFIG


@pytest.mark.parametrize("route", ["/setup", "/predict", "/webhook", "/train"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"project": {}}', b'{"tasks": 5}', b"\xff\xfe"]
)
def test_a_bad_body_is_a_clear_400(client: FlaskClient, route: str, body: bytes) -> None:
    answer = client.post(route, data=body, content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.json) == {"code", "message", "mend", "request_id"}
    assert answer.json["code"] == "bad_payload"


def test_train_asks_for_training(client: FlaskClient, store: Store) -> None:
    _setup(client)
    for project in (7, "7", {"id": 7}):
        with store.write() as session:
            session.get_one(Project, 7).train_requested_at = None
        assert client.post("/train", json={"project": project}).status_code == 200
        with store.read() as session:
            assert session.get_one(Project, 7).train_requested_at is not None


def test_versions_without_any(client: FlaskClient) -> None:
    assert client.get("/versions").json == {"versions": ["v0"]}


def test_the_page_says_what_to_do_first(client: FlaskClient) -> None:
    answer = client.get("/")
    assert b"tiebreak connect" in answer.data
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_page_shows_a_project(client: FlaskClient) -> None:
    _setup(client)
    page = client.get("/").text
    assert "No trainer is running" in page
    assert "v0" in page
    api = client.get("/api/projects/7").json
    assert (api["version"], api["tasks"], api["versions"]) == ("v0", 0, [])


def test_an_unknown_route_is_json(client: FlaskClient) -> None:
    answer = client.get("/nowhere")
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_an_unknown_project_says_how_to_connect(client: FlaskClient) -> None:
    answer = client.get("/api/projects/99")
    assert answer.status_code == 404
    assert "tiebreak connect 99" in answer.json["mend"]
