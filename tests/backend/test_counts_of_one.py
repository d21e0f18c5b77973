"""Sentences with a count, where it is one."""

from __future__ import annotations

import re

from flask.testing import FlaskClient

from backend.connect import _describe
from backend.label_config import parse_label_config
from backend.settings import Settings
from backend.tables import Project
from backend.versions import promote
from tests.backend.conftest import Tables
from tests.backend.doctors import look
from tests.backend.saved_versions import save_version

ONE_CLASS = """<View><Image name="image" value="$image"/>
<Choices name="label" toName="image" choice="multiple"><Choice value="blurred"/></Choices></View>"""


def test_one_class_on_the_page(client: FlaskClient, tables: Tables) -> None:
    with tables.store.write() as session:
        session.get_one(Project, 1).label_config = ONE_CLASS
    read = " ".join(re.sub(r"<[^>]*>", " ", client.get("/").text).split())
    assert "only measure; 1 class, any number of them per image." in read


def test_one_class_that_is_connected() -> None:
    assert _describe(parse_label_config(ONE_CLASS)) == [
        "learns “label”: 1 class, any number of them per image"
    ]


def test_one_image_still_to_be_embedded(tables: Tables, settings: Settings) -> None:
    save_version(tables, settings, 1)
    save_version(tables, settings, 2)
    tables.task(1)
    assert promote(tables.store, settings, 1, 1).warnings == [
        "1 of 1 image is still to be embedded for v1; until the trainer has done that, its tasks "
        "wait."
    ]
    tables.task(2)
    assert promote(tables.store, settings, 1, 2).warnings == [
        "2 of 2 images are still to be embedded for v2; until the trainer has done that, their "
        "tasks wait."
    ]


def test_one_file_with_secrets(settings: Settings) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    own = settings.data_dir / "api-token"
    own.write_text("a-secret-of-the-tests-that-is-long")
    own.chmod(0o600)
    found = look("secret-files", settings)
    assert (found.state, found.what) == ("ok", "1 file with secrets, not open to other users")
