from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from backend.hints import pending_look
from backend.projects import register_project
from backend.settings import Settings
from backend.tables import Project
from tests.backend.explained_project import CLASSES, ExplainedProject, explained, png, stripes
from tests.backend.served_app import client_of
from tests.serving import serving

__all__ = ["explained"]

SEVERAL = """<View><Image name="image" value="$image"/><Image name="more" value="$more"/>
<Choices name="label" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices>
<Choices name="other" toName="more"><Choice value="a"/><Choice value="b"/></Choices></View>"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Studio

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        self.server.asked.append((self.path, kind.partition(";")[0], body, kind))
        refused = "/annotations/" in self.path and self.server.refuses_labels
        content = json.dumps({} if refused else {"task_ids": [77], "task_count": 1}).encode()
        self.send_response(500 if refused else 201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Studio(ThreadingHTTPServer):
    """Takes imports and annotations as Label Studio does, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[tuple[str, str, bytes, str]] = []
        self.refuses_labels = False


@pytest.fixture
def taking() -> Iterator[Studio]:
    with serving(Studio()) as server:
        yield server


@pytest.fixture
def page(explained: ExplainedProject, taking: Studio) -> Iterator[FlaskClient]:
    fields = explained.settings.model_dump() | {"label_studio_url": taking.url}
    with client_of(Settings(**fields)) as client:
        yield client


def data_uri(data: bytes, media: str = "image/png") -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def layer(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_dropped_file_is_explained(page: FlaskClient, explained: ExplainedProject) -> None:
    picture = stripes(1, 70)
    answer = page.post("/api/projects/1/explain", json={"uri": data_uri(png(picture))})
    assert answer.status_code == 200, answer.text
    found = answer.json
    said = explained.head.probabilities(explained.engine.embed([picture], explained.backbone))[0]
    assert [each["name"] for each in found["top"]] == [CLASSES[i] for i in np.argsort(-said)]
    assert found["confidence"] == pytest.approx(said.max(), abs=1e-6)
    assert found["digest"] == hashlib.sha256(png(picture)).hexdigest()
    assert layer(found["superpixels"]).size == layer(found["heat"]).size == picture.size
    with page.get(f"/images/{found['digest']}") as copy:
        assert copy.mimetype == "image/png"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(copy.data))), np.asarray(picture))
    other = next(name for name in CLASSES if name != found["explained"])
    body = {"uri": data_uri(png(picture)), "class": other, "control": "label"}
    again = page.post("/api/projects/1/explain", json=body).json
    assert (again["explained"], again["top"]) == (other, found["top"])


REFUSED = [
    ("data:image/png;base64,bm8gcGljdHVyZQ==", "not an image"),
    ("http://127.0.0.1:9/x.png", "127.0.0.1"),
    ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
    ("/data/upload/1/x.png", "no address of an image"),
    ("s3://bucket/key.png", "no address of an image"),
    ("file:///etc/passwd", "no address of an image"),
]


def test_what_the_settings_do_not_allow_is_not_fetched(page: FlaskClient, taking: Studio) -> None:
    for uri, said in REFUSED:
        answer = page.post("/api/projects/1/explain", json={"uri": uri})
        assert (answer.status_code, answer.json["code"]) == (400, "no_image"), uri
        assert said in answer.json["message"]
        task = {"uri": uri, "name": "x.png", "choices": {"label": ["cat"]}}
        assert page.post("/api/projects/1/tasks", json=task).status_code == 400
    assert taking.asked == []


def test_of_a_broken_file_no_address_is_told(page: FlaskClient) -> None:
    for data, said, mend in (
        (png(stripes(0, 1))[:-40], "The image file is cut off.", "Drop another file."),
        (b"no picture", "It is not an image of a known format.", "Allowed are JPEG, PNG"),
    ):
        answer = page.post("/api/projects/1/explain", json={"uri": data_uri(data)})
        assert (answer.status_code, answer.json["code"]) == (400, "no_image")
        assert answer.json["message"] == said
        assert answer.json["mend"].startswith(mend)
    address = page.post("/api/projects/1/explain", json={"uri": "http://127.0.0.1:9/x.png"})
    assert address.json["message"].startswith("http://127.0.0.1:9/x.png: ")


def test_what_is_not_there_is_refused(page: FlaskClient, explained: ExplainedProject) -> None:
    uri = data_uri(png(stripes(0, 1)))
    wrong = page.post("/api/projects/1/explain", json={"uri": uri, "class": "cow"})
    assert (wrong.status_code, wrong.json["code"]) == (400, "unknown_choice")
    assert page.post("/api/projects/9/explain", json={"uri": uri}).status_code == 404
    register_project(explained.store, 2, title="New", label_config=SEVERAL)
    new = page.post("/api/projects/2/explain", json={"uri": uri})
    assert (new.status_code, new.json["code"]) == (400, "nothing_learned")
    assert "Nothing is learned yet" in page.get("/projects/2/try").text
    body = {"uri": uri, "name": "x.png", "choices": {"label": ["cat"]}}
    assert page.post("/api/projects/2/tasks", json=body).json["code"] == "several_images"


def test_only_digests_lead_to_images(page: FlaskClient) -> None:
    for digest in ("x", "..%2f..%2ftiebreak.db", "f" * 64, "F" * 64, "f" * 63):
        assert page.get(f"/images/{digest}").status_code == 404


def parts(kind: str, body: bytes) -> dict[str, tuple[str | None, bytes]]:
    """Field → file name and content of a multipart body."""
    message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    found = {}
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
        content = part.get_payload(decode=True)  # type: ignore[union-attr]
        found[str(name)] = part.get_filename(), content  # type: ignore[union-attr]
    return found  # type: ignore[return-value]


def test_a_corrected_file_becomes_a_labelled_task(
    page: FlaskClient, taking: Studio, explained: ExplainedProject
) -> None:
    data = png(stripes(0, 71))
    body = {
        "uri": data_uri(data),
        "name": '../Über "x".PNG',
        "choices": {"label": ["dog"]},
        "train": True,
    }
    answer = page.post("/api/projects/1/tasks", json=body)
    assert answer.json == {"task": 77, "training": True}, answer.text
    (path, _, sent, kind), (where, _, label, _) = taking.asked
    assert path == "/api/projects/1/import?return_task_ids=true"
    assert parts(kind, sent) == {"file": ("ber-x.png", data)}
    assert where == "/api/tasks/77/annotations/"
    assert json.loads(label)["result"] == [
        {
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["dog"]},
        }
    ]
    look = pending_look(explained.store, 1)
    assert look is not None
    assert look.task_ids == (77,)
    assert explained.tables.project().train_requested_at is not None


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"choices": {"label": ["cow"]}}, "unknown_choice"),
    ({"choices": {"label": ["cat", "dog"]}}, "unknown_choice"),
    ({"choices": {"label": []}}, "unknown_choice"),
    ({"choices": {"mood": ["cat"]}}, "unknown_choice"),
    ({"choices": {}}, "bad_payload"),
    ({"name": "x.svg"}, "unknown_kind"),
    ({"name": "png"}, "unknown_kind"),
]


def test_what_does_not_fit_makes_nothing(page: FlaskClient, taking: Studio) -> None:
    body = {"uri": data_uri(png(stripes(0, 1))), "name": "x.png", "choices": {"label": ["cat"]}}
    for change, code in MISFITS:
        answer = page.post("/api/projects/1/tasks", json=body | change)
        assert answer.status_code == 400, change
        assert answer.json["code"] == code
    assert taking.asked == []


def test_a_task_that_got_no_label_is_told(
    page: FlaskClient, taking: Studio, explained: ExplainedProject
) -> None:
    taking.refuses_labels = True
    body = {"uri": data_uri(png(stripes(0, 1))), "name": "x.png", "choices": {"label": ["cat"]}}
    answer = page.post("/api/projects/1/tasks", json=body)
    assert answer.status_code == 503
    assert answer.json["message"].startswith("Task 77 is made, but has no label yet.")
    assert answer.json["mend"] == "Label task 77 in Label Studio."
    assert pending_look(explained.store, 1) is not None, "the new task is looked at none the less"


def test_the_page_names_classes_and_never_as_markup(
    page: FlaskClient, explained: ExplainedProject
) -> None:
    text = page.get("/projects/1/try").text
    for name in CLASSES:
        assert f'<option value="{name}">{name}</option>' in text
    with explained.store.write() as session:
        session.get_one(Project, 1).title = "<script>alert(1)</script>"
    assert "<script>alert" not in page.get("/projects/1/try").text
    assert page.get("/projects/9/try").json["code"] == "unknown_project"
