from __future__ import annotations

import html
import re

import pytest
from flask.testing import FlaskClient

from backend.hints import pending_look
from backend.projects import register_project
from backend.settings import Settings
from backend.store import Store
from backend.tables import ImageSource, Label, Project, Task, TaskImage, TrainerProcess, Version
from backend.task_rows import source_key

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def troubled(store: Store) -> None:
    """A project in which a bit of everything is wrong, and no trainer."""
    register_project(store, 7, title=HOSTILE, label_config=CONFIG)
    uris = {task: f"https://images.example.org/{task}.png" for task in range(1, 15)}
    with store.write() as session:
        project = session.get_one(Project, 7)
        project.error, project.champion, project.served = f"down: {HOSTILE}", 2, "v1"
        for task, uri in uris.items():
            session.add(Task(project_id=7, id=task, annotations=1, is_labeled=True))
            session.add(
                TaskImage(
                    project_id=7, task_id=task, data_key="image", uri=uri, source=source_key(uri)
                )
            )
            tied = Label(project_id=7, task_id=task, control="label", status="tied", choices=[])
            session.add(tied)
        tied.status, tied.detail = "outside", '"owl" not among the choices'
        broken = ImageSource(source=source_key(uris[1]), failure=f"404 {HOSTILE}", attempts=1)
        session.add(broken)
        session.add(
            Version(
                project_id=7,
                number=3,
                created_at=0.0,
                kept=False,
                reason="Refused: 3 of 12 held-out images right.",
                labels=20,
                backbone="b",
                metrics={},
            )
        )


def words(client: FlaskClient) -> str:
    """The page as it is read: no tags, one space between words."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", client.get("/").text)).split())


def test_no_project_yet(client: FlaskClient) -> None:
    read = words(client)
    assert "No project is connected yet" in read
    assert "tiebreak connect PROJECT" in read


@pytest.mark.usefixtures("troubled")
def test_trouble_is_told(client: FlaskClient) -> None:
    read = words(client)
    assert "No trainer is running" in read
    assert f"down: {HOSTILE}" in read
    assert "up to date" not in read
    assert "Label Studio still orders by v1; v2 is on its way." in read
    assert "v3, from 20 labels. Refused: 3 of 12 held-out images right." in read
    assert "task 1 , task 2 , task 3" in read
    assert "task 10 and more." in read
    assert 'Kept, but not learned from: "owl" not among the choices (1).' in read
    assert f"task 1 : 404 {HOSTILE}" in read


@pytest.mark.usefixtures("troubled")
def test_what_others_wrote_is_never_markup(client: FlaskClient) -> None:
    page = client.get("/").text
    assert re.findall(r"<script[^>]*>", page) == re.findall(
        r'<script src="/static/[^"]*" defer>', page
    )
    assert html.escape(HOSTILE, quote=False) in page.replace("&#39;", "'")


@pytest.mark.usefixtures("troubled")
def test_looking_changes_nothing(client: FlaskClient, store: Store, settings: Settings) -> None:
    before = pending_look(store, 7)
    first = client.get("/").text
    with store.write() as session:
        session.add(TrainerProcess(owner="t", heartbeat_at=1e12))
    assert "No trainer is running" not in client.get("/").text
    assert "No trainer is running" in first
    assert pending_look(store, 7) == before


def test_nothing_inline_that_the_content_policy_would_block(client: FlaskClient) -> None:
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<style|<script(?! src=)|\sstyle=|\son\w+=", answer.text)
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', answer.text):
        with client.get(path) as file:
            assert file.status_code == 200
