"""The tab of suspicious labels in Label Studio holds what the page shows."""

from __future__ import annotations

import re

from pydantic import SecretStr

from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import Project
from tests.backend.conftest import Tables
from tests.backend.scripted_server import TOKEN, Server, server
from tests.backend.served_app import client_of
from tests.backend.test_suspicious import entry, keep

__all__ = ["server"]

TWO = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="owl"/></Choices>
<Choices name="other" toName="image"><Choice value="cat"/><Choice value="owl"/></Choices></View>"""


def test_the_tab_holds_the_tasks_of_the_page(
    tables: Tables, settings: Settings, server: Server
) -> None:
    with tables.store.write() as session:
        project = session.get_one(Project, 1)
        project.label_config = TWO
        names = [control.name for control in controls_of(project)]
    assert names == ["label", "other"]
    for task in range(1, 61):
        tables.task(task)
        for name in names:
            tables.label(task, "cat", control=name)
    found = [{**entry(task, "cat"), "control": name} for task in range(1, 61) for name in names]
    keep(tables.store, *found)
    title = "Suspicious labels"
    view = {"id": 7, "project": 1, "data": {"title": title}}
    server.answers = [(200, [view]), (200, view)]
    asked = settings.model_copy(
        update={"label_studio_url": server.url, "label_studio_api_key": SecretStr(TOKEN)}
    )
    with client_of(asked) as client:
        page = client.get("/projects/1/suspicious").text
        [most] = re.findall(r'data-most="(\d+)"', page)
        answer = client.post("/api/projects/1/suspicious/tab", json={"most": int(most)})
    shown = [int(task) for task in re.findall(r"Image of task (\d+)", page)]
    assert len(shown) == 100
    assert answer.json is not None
    assert answer.json["tasks"] == sorted(set(shown)) == list(range(1, 51))
    items = server.calls[-1].body["data"]["filters"]["items"]
    assert [item["value"] for item in items] == answer.json["tasks"]
