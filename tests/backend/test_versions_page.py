from __future__ import annotations

import html
import re

import pytest
from flask.testing import FlaskClient

from backend.settings import Settings
from backend.store import Store
from backend.tables import Project, Version
from backend.version_metrics import gate_of
from tests.backend.conftest import Tables
from tests.callers import API_TOKEN

Measured = tuple[FlaskClient, Store, Settings]
PROMOTE, ROLL_BACK = "/projects/1/versions/promote", "/projects/1/versions/rollback"


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def champion(store: Store) -> int:
    with store.read() as session:
        return session.get_one(Project, 1).champion


def test_every_version_is_shown_with_its_measures_and_flips(measured: Measured) -> None:
    page, store, _ = measured
    read = words(page.get("/projects/1/versions").text)
    for number, state in ((4, "refused"), (3, "serves"), (2, "kept"), (1, "kept")):
        assert f"v{number} {state}" in read
        with store.read() as session:
            row = session.get_one(Version, (1, number))
            share = row.metrics["measures"]["label"]["held_out"]["accuracy"]
            assert len(gate_of(row.metrics)["gained_ids"]) == 3
        assert f"right {share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})" in read
        assert f"Right only with v{number}: task 3 , task 6 , task 9 ." in read
    assert "Refused: worse on the audit labels." in read
    assert read.count("Right only before: task 4 .") == 4


def test_before_anything_is_learned(tables: Tables, client: FlaskClient) -> None:
    text = client.get("/projects/1/versions").text
    assert "Nothing is learned yet." in words(text)
    assert "data-post" not in text
    refused = client.post(ROLL_BACK, json={"serving": "v0"})
    assert (refused.status_code, refused.json["code"]) == (422, "cannot_serve")


def test_promote_and_roll_back(measured: Measured) -> None:
    page, store, _ = measured
    done = page.post(PROMOTE, json={"version": "v4", "serving": "v3"}).json
    assert (done["version"], done["before"], done["changed"]) == ("v4", "v3", True)
    assert done["sentence"] == "v4 serves now, instead of v3."
    assert done["warnings"][0].startswith("The gate refused v4.")
    assert champion(store) == 4
    back = page.post(ROLL_BACK, json={"serving": "v4"}).json
    assert (back["version"], champion(store)) == ("v3", 3)


def test_what_was_not_seen_is_not_replaced(measured: Measured) -> None:
    page, store, _ = measured
    for path, body in (
        (PROMOTE, {"version": "v1", "serving": "v2"}),
        (ROLL_BACK, {"serving": "v2"}),
    ):
        answer = page.post(path, json=body)
        assert (answer.status_code, answer.json["code"]) == (422, "changed_meanwhile")
        assert champion(store) == 3


def test_a_version_that_cannot_serve_changes_nothing(measured: Measured) -> None:
    page, store, _ = measured
    unknown = page.post(PROMOTE, json={"version": "v9", "serving": "v3"})
    assert (unknown.status_code, unknown.json["code"]) == (422, "cannot_serve")
    assert "no version v9" in unknown.json["message"]
    with store.write() as session:
        session.get_one(Version, (1, 1)).pruned = True
    assert page.post(PROMOTE, json={"version": "v1", "serving": "v3"}).status_code == 422
    assert champion(store) == 3


@pytest.mark.parametrize("path", [PROMOTE, ROLL_BACK])
def test_only_the_page_itself_and_the_password_may(measured: Measured, path: str) -> None:
    page, store, _ = measured
    body = {"version": "v1", "serving": "v3"}
    other_site = page.post(path, json=body, headers={"Origin": "https://evil.example"})
    assert (other_site.status_code, other_site.json["code"]) == (403, "cross_site")
    form = page.post(path, data="version=v1", content_type="application/x-www-form-urlencoded")
    assert form.status_code == 415
    program = page.application.test_client()
    answer = program.post(path, json=body, headers={"Authorization": f"Bearer {API_TOKEN}"})
    assert answer.status_code == 401
    for wrong in ({}, {"serving": "3"}, {"version": "v1", "serving": "v3\n"}, []):
        assert page.post(path, json=wrong).status_code == 400
    assert page.post(path.replace("1", "2", 1), json=body).status_code == 404
    assert champion(store) == 3
