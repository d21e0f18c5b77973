"""The client of Label Studio against a real one."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from backend.errors import (
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioUnauthorized,
)
from backend.labels import Annotation, labelled_at
from backend.labelstudio import LabelStudio
from tests.e2e.conftest import SINGLE_CHOICE
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.plain_tasks import images, prediction

Json = dict[str, Any]


def chosen(annotation: Annotation) -> list[str]:
    return [c for item in annotation.result for c in item["value"]["choices"]]


def test_version_and_user(client: LabelStudio, label_studio: LabelStudioServer) -> None:
    assert client.version().startswith("1.")
    assert client.whoami()["email"] == label_studio.email


def test_personal_access_token_does_all_that_a_legacy_token_does(
    label_studio: LabelStudioServer, project: int
) -> None:
    token = label_studio.personal_token
    with LabelStudio(label_studio.url, token) as client:
        first = client.authorization()
        assert first.startswith("Bearer ")
        assert token not in first
        assert client.project(project).id == project
        assert client.authorization() == first


def test_refused_tokens_say_which_setting_to_mend(label_studio: LabelStudioServer) -> None:
    for token in ("f" * 40, "aaaa.bbbb.cccc"):
        with (
            LabelStudio(label_studio.url, token) as client,
            pytest.raises(LabelStudioUnauthorized) as caught,
        ):
            client.projects()
        assert "LABEL_STUDIO_API_KEY" in caught.value.mend
        assert token not in f"{caught.value!r} {caught.value}"


def test_projects_are_found_by_number_and_by_title(client: LabelStudio, project: int) -> None:
    title = client.project(project).title
    assert client.find_project(str(project)).id == project
    assert client.find_project(title).id == project
    assert client.find_project(title.upper()).label_config == SINGLE_CHOICE
    assert project in {p.id for p in client.projects()}
    with pytest.raises(LabelStudioNotFound) as caught:
        client.find_project("No such project")
    assert title in caught.value.mend
    with pytest.raises(LabelStudioNotFound):
        client.project(99_999)


def test_a_title_that_two_projects_have_is_refused(client: LabelStudio) -> None:
    twins = [client.create_project("The twins", SINGLE_CHOICE).id for _ in range(2)]
    try:
        with pytest.raises(LabelStudioError) as caught:
            client.find_project("The twins")
        assert all(str(number) in caught.value.mend for number in twins)
    finally:
        for number in twins:
            client.delete_project(number)
    with pytest.raises(LabelStudioNotFound):
        client.project(twins[0])


def test_tasks_come_page_by_page_and_unresolved(client: LabelStudio, project: int) -> None:
    assert list(client.tasks(project)) == []
    data = [f"s3://bucket/{i}.png" for i in range(7)]
    assert client.import_tasks(project, [{"data": {"image": uri}} for uri in data]) == 7
    tasks = list(client.tasks(project, page_size=3))
    assert [t.data for t in tasks] == [{"image": uri} for uri in data]
    assert [t.id for t in tasks] == sorted(client.task_ids(project))
    assert not any(t.is_labeled or t.total_annotations for t in tasks)
    assert list(client.tasks(project, after_id=tasks[4].id, page_size=1)) == tasks[5:]
    assert list(client.tasks(project, page_size=7)) == tasks


def test_annotations_of_two_people_with_skips_drafts_and_deletes(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    admin, ann = label_studio.admin, label_studio.create_user("ann@tiebreak.example")
    one, two, three, four = admin.import_tasks(project, images(4))
    began = time.time()
    admin.submit(one, label="cat")
    ann.submit(one, label="dog")
    ann.skip(two)
    ann.save_draft(three, label="owl")

    found = dict(client.annotated(project))
    assert sorted(found) == [one, two]
    assert [(chosen(a), a.completed_by) for a in found[one]] == [
        (["cat"], admin.id),
        (["dog"], ann.id),
    ]
    assert [(a.was_cancelled, a.result, a.task_id) for a in found[two]] == [(True, [], two)]

    first, second = (datetime.fromisoformat(a.created_at) for a in found[one])
    assert began <= first.timestamp() < second.timestamp() == labelled_at(found[one][1:])
    assert labelled_at(found[one]) == first.timestamp()

    admin.delete_annotation(found[one][0].id)
    ann.update(found[one][1].id, label="owl")
    asked = client.task_annotations(project, [one, two, three, four + 1000])
    assert sorted(asked) == [one, two, three]
    task, annotations = asked[one]
    assert (task.is_labeled, task.total_annotations) == (True, 1)
    assert [chosen(a) for a in annotations] == [["owl"]]
    assert asked[three][1] == []


def test_changes_to_annotations_are_seen_and_predictions_are_not(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    admin = label_studio.admin
    ids = admin.import_tasks(project, images(5))

    def latest() -> str:
        return max(task.updated_at for task in client.tasks(project))

    def changed(since: str) -> list[int]:
        return [t.id for t, _ in client.changed_since(project, since) if t.updated_at > since]

    since = latest()
    assert changed(since) == []
    annotation = admin.submit(ids[0], label="cat")
    skip = admin.skip(ids[1])
    assert changed(since) == ids[:2]
    since = latest()
    admin.update(annotation, label="dog")
    assert changed(since) == [ids[0]]
    since = latest()
    admin.delete_annotation(annotation)
    admin.delete_annotation(skip)
    assert changed(since) == ids[:2]
    since = latest()
    assert client.import_predictions(project, [prediction(i, "v1") for i in ids]) == 5
    admin.save_draft(ids[2], label="owl")
    assert changed(since) == []
    imported = [{**images(1)[0], "annotations": [{"result": []}]}]
    new = admin.import_tasks(project, imported)
    assert changed(since) == new


def test_annotated_is_complete_over_pages(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    skip = {"result": [], "was_cancelled": True}
    labelled = [{**task, "annotations": [{"result": []}]} for task in images(6)]
    skipped = [{**task, "annotations": [skip]} for task in images(2)]
    ids = label_studio.admin.import_tasks(project, labelled + images(2) + skipped)
    wanted = [*ids[:6], *ids[8:]]
    for page_size in (1, 3, 8, 1000):
        found = list(client.annotated(project, page_size=page_size))
        assert [task_id for task_id, _ in found] == wanted
        assert [a.was_cancelled for _, given in found for a in given] == [False] * 6 + [True] * 2


def test_more_tasks_than_one_address_can_name(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    ids = label_studio.admin.import_tasks(project, images(450))
    assert sorted(client.task_annotations(project, ids)) == ids


def test_predictions_are_stored_without_deleted_tasks(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    admin = label_studio.admin
    ids = admin.import_tasks(project, images(5))
    for gone in ids[1:3]:
        admin.delete(f"/api/tasks/{gone}/")
    left = [ids[0], *ids[3:]]
    assert client.import_predictions(project, [prediction(i, "v1", 0.25) for i in ids]) == 3
    stored = admin.get("/api/predictions/", task=ids[0])
    assert [(p["score"], p["model_version"]) for p in stored] == [(0.25, "v1")]
    assert client.import_predictions(project, []) == 0
    assert client.import_predictions(project, [prediction(ids[1], "v1")]) == 0
    assert client.tasks_with_version(project, "v1") == set(left)


def test_entries_that_label_studio_passes_over_are_not_counted(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    ids = label_studio.admin.import_tasks(project, images(2))
    sent = [prediction(ids[0], "v1", choice="no such class"), prediction(ids[1], "v1")]
    assert client.import_predictions(project, sent) == 1
    assert client.tasks_with_version(project, "v1") == {ids[1]}


def test_versions_are_told_apart_exactly(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    one, two, three = label_studio.admin.import_tasks(project, images(3))
    many = [prediction(three, f"v{1000 + i}") for i in range(150)]
    sent = [prediction(one, "v1"), prediction(two, "v10"), prediction(three, "v1"), *many]
    assert client.import_predictions(project, sent) == 153
    assert client.tasks_with_version(project, "v1") == {one, three}
    assert client.tasks_with_version(project, "v10") == {two}
    assert client.tasks_with_version(project, "v2") == set()
    assert client.version_counts(project)["v1"] == 2


def test_a_version_is_deleted_of_a_task_and_of_none_that_is_gone(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    admin = label_studio.admin
    one, gone = admin.import_tasks(project, images(2))
    client.import_predictions(
        project, [prediction(one, "v1"), prediction(one, "v1.1"), prediction(gone, "v1")]
    )
    admin.delete(f"/api/tasks/{gone}/")
    assert client.delete_predictions(one, "v1") == 1
    assert client.version_counts(project) == {"v1.1": 1}
    assert client.delete_predictions(one, "v1") == 0
    assert client.delete_predictions(gone, "v1") == 0


def test_the_version_and_the_sampling_order_the_next_task(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    person = label_studio.create_user("bob@tiebreak.example")
    ids = label_studio.admin.import_tasks(project, images(4))
    scores = dict(zip(ids, (0.9, 0.4, 0.1, 0.7), strict=True))
    client.import_predictions(project, [prediction(i, "v1", s) for i, s in scores.items()])
    saved = client.update_project(project, model_version="v1", sampling="Uncertainty sampling")
    assert (saved.model_version, saved.sampling) == ("v1", "Uncertainty sampling")
    order = []
    while task := person.next_task(project):
        order.append(task["id"])
        person.submit(task["id"], label="cat")
    assert order == sorted(ids, key=scores.__getitem__)
    with pytest.raises(LabelStudioError) as caught:
        client.update_project(project, model_version="v2")
    assert "model_version" in caught.value.detail


def test_local_storage_finds_new_images_only(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    folder = label_studio.files / "local"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.png", "deeper/b.JPG", "notes.txt"):
        (folder / name).write_bytes(b"never read by Label Studio")
    assert client.add_local_storage(project, folder) == 2
    (folder / "c.webp").write_bytes(b"new")
    client.add_local_storage(project, folder)
    uris = [str(task.data["image"]) for task in client.tasks(project)]
    assert sorted(uris) == [
        "/data/local-files/?d=local/a.png",
        "/data/local-files/?d=local/c.webp",
        "/data/local-files/?d=local/deeper/b.JPG",
    ]
    header = {"Authorization": client.authorization()}
    served = httpx.get(client.url + uris[0], headers=header, trust_env=False)
    assert served.content == b"never read by Label Studio"


def test_uploads_become_tasks(client: LabelStudio, project: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.new("RGB", (4, 4), (i, i, i)).save(path)
    assert client.upload_files(project, paths) == 3
    uris = [str(task.data["image"]) for task in client.tasks(project)]
    assert all(uri.startswith(f"/data/upload/{project}/") for uri in uris)
    header = {"Authorization": client.authorization()}
    for path, uri in zip(paths, uris, strict=True):
        assert client.is_own(client.url + uri)
        served = httpx.get(client.url + uri, headers=header, trust_env=False)
        assert served.content == path.read_bytes()


def test_storage_uris_are_resolved_at_label_studio(
    client: LabelStudio, label_studio: LabelStudioServer, project: int
) -> None:
    [task] = label_studio.admin.import_tasks(project, [{"data": {"image": "s3://no/such.png"}}])
    url = client.resolve_url(task, "s3://no/such.png")
    assert client.is_own(url)
    answer = httpx.get(url, headers={"Authorization": client.authorization()}, trust_env=False)
    # The route, the task and the token are right; there is only no such storage.
    assert answer.status_code in (400, 404)
    assert "text/html" not in answer.headers.get("content-type", "")
