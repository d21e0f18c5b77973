from __future__ import annotations

import html
import re

import numpy as np
from flask.testing import FlaskClient

from backend.dataset_view import Alike, copies, near_duplicates
from backend.settings import Settings
from backend.store import Store
from backend.tables import ImageGroup, ImageSource
from backend.task_rows import source_key
from tests.backend.conftest import Tables, digest_of
from tests.backend.measured_project import HOSTILE

Measured = tuple[FlaskClient, Store, Settings]


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_what_is_wrong_with_the_data_is_told(measured: Measured) -> None:
    page, _, _ = measured
    text = page.get("/projects/1/dataset").text
    read = words(text)
    assert "2 tasks with the same bytes: task 901 , task 902" in read
    assert "2 images: task 901 , task 903" in read
    assert f"task 904 404 from the server: {HOSTILE}" in read
    assert HOSTILE not in text
    assert '"fox" is not among the choices (1).' in read
    assert "They are task 905 ." in read
    assert "nobody has the majority: task 902 ." in read


def test_of_nothing_it_says_so(tables: Tables, client: FlaskClient) -> None:
    read = words(client.get("/projects/1/dataset").text)
    assert "No image is in two tasks." in read
    assert "No two different images are nearly the same." in read
    assert read.count("None.") == 2
    assert client.get("/projects/2/dataset").status_code == 404


def test_groups_are_counted_by_task_the_largest_first(tables: Tables, store: Store) -> None:
    # 1 leads 2 and 3; 4 leads 5; 6 is alone. 7 and 8 have the bytes of 2, 9 those of 6.
    for task, leader in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4), (6, 6)):
        tables.task(task, np.zeros(4), leader=digest_of(leader))
    for task, copied in ((7, 2), (8, 2), (9, 6)):
        tables.task(task)
        with store.write() as session:
            source = source_key(f"/data/{task}.png")
            session.add(ImageSource(source=source, digest=digest_of(copied)))
    tables.task(10)
    with store.write() as session:  # of an image that no task shows any more
        session.add(ImageGroup(project_id=1, digest="f" * 64, leader=digest_of(6)))
    with store.read() as session:
        same, near = copies(session, 1), near_duplicates(session, 1)
    assert (same.groups, same.tasks) == (2, 5)
    assert same.shown == [Alike(3, [2, 7, 8]), Alike(2, [6, 9])]
    assert (near.groups, near.tasks) == (2, 5)
    assert near.shown == [Alike(3, [1, 2, 3]), Alike(2, [4, 5])]


def test_of_many_groups_the_largest_are_shown(tables: Tables, store: Store) -> None:
    for pair in range(60):
        tables.task(2 * pair + 1, np.zeros(4))
        tables.task(2 * pair + 2, np.zeros(4), leader=digest_of(2 * pair + 1))
    with store.read() as session:
        near = near_duplicates(session, 1)
    assert (near.groups, near.tasks, len(near.shown)) == (60, 120, 50)
