"""A labelling config that changes under a project that has learned."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

from backend.dataset import labelled_images
from backend.labelstudio import LabelStudio
from backend.projects import OUTSIDE_ADVICE, register_project
from backend.sync import controls_of, look_at_everything, set_config
from backend.tables import Project
from backend.training import TOO_LITTLE
from tests.backend.loop_project import CLASSES, COLOURS, Loop, MakeLoop, config
from tests.backend.served_app import client_of
from tests.backend.small_label_studio import SmallLabelStudio


@pytest.fixture
def loop(make_loop: MakeLoop, small_label_studio: SmallLabelStudio) -> Loop:
    studio = small_label_studio
    random = np.random.default_rng(0)
    studio.project["label_config"] = config(*CLASSES)
    for task in range(1, 61):
        red, green, blue = COLOURS[CLASSES[task % 3]] + random.integers(-20, 20, 3)
        studio.add_task(task, (int(red), int(green), int(blue)))
    for task in range(1, 31):
        studio.annotate(task, label=[CLASSES[task % 3]])
    made = make_loop(label_studio_url=studio.url, audit_share=0.0, quiet_seconds=0.0)
    assert made.settle().champion == 1
    assert made.engine.embedded == 60
    assert {p["result"][0]["value"]["choices"][0] for p in studio.served().values()} == {*CLASSES}
    return made


def test_a_class_is_renamed_and_renamed_back(
    loop: Loop, small_label_studio: SmallLabelStudio
) -> None:
    studio = small_label_studio
    studio.project["label_config"] = config("cat", "hound", "owl")
    project = loop.settle()
    # At once, though no label came, and from features that were there.
    assert project.champion == 2
    assert loop.engine.embedded == 60
    assert loop.champion().heads["label"].classes == ("cat", "hound", "owl")
    assert loop.champion().manifest["labels"] == 20
    control = loop.control()
    assert control.labels == 20
    assert control.outside == ['"dog" not among the choices of the labelling config (10)']
    assert control.outside_tasks == [n for n in range(1, 31) if n % 3 == 1]
    assert control.advice == OUTSIDE_ADVICE
    assert project.served == "v2"
    ticked = {p["result"][0]["value"]["choices"][0] for p in studio.served().values()}
    assert ticked == {"cat", "owl"}

    studio.project["label_config"] = config(*CLASSES)
    assert loop.settle().champion == 3
    assert loop.control().labels == 30
    assert (loop.control().outside, loop.control().advice) == ([], "")
    assert loop.champion().manifest["labels"] == 30
    assert loop.engine.embedded == 60


def test_a_class_is_added_and_one_removed(loop: Loop, small_label_studio: SmallLabelStudio) -> None:
    small_label_studio.project["label_config"] = config("cat", "dog", "owl", "emu")
    assert loop.settle().champion == 2
    vectors = np.eye(3, 16, dtype=np.float16)
    head = loop.champion().heads["label"]
    assert head.probabilities(vectors)[:, 3].tolist() == [0, 0, 0]
    assert loop.control().outside == []
    # Labels of the new class are learned from as any others.
    for task in range(31, 41):
        small_label_studio.annotate(task, label=["emu"])
    assert loop.settle().champion == 3
    small_label_studio.project["label_config"] = config("cat", "owl", "emu")
    assert loop.settle().champion == 4
    assert loop.champion().heads["label"].classes == ("cat", "owl", "emu")
    assert loop.control().labels == 30
    assert loop.engine.embedded == 60


def test_one_choice_becomes_several_and_the_head_is_of_the_other_kind(
    loop: Loop, small_label_studio: SmallLabelStudio
) -> None:
    small_label_studio.project["label_config"] = config(*CLASSES, extra=' choice="multiple"')
    assert loop.settle().champion == 2
    assert loop.champion().heads["label"].multiple
    for task in range(1, 31):
        small_label_studio.annotate(task, label=CLASSES[:2])
    small_label_studio.project["label_config"] = config(*CLASSES)
    project = loop.settle()
    # No label fits: what was learned serves on, but says nothing of a question it was not asked.
    assert project.champion == 2
    assert project.waiting == "labels that fit the labelling config"
    [told] = loop.control().outside
    assert told == '"cat", "dog" on a control that takes one choice (30)'
    assert "mend" not in project.error


def test_labels_of_one_class_are_too_few_to_follow_the_config(
    loop: Loop, small_label_studio: SmallLabelStudio
) -> None:
    small_label_studio.project["label_config"] = config("cat", "hound", "snowy owl")
    project = loop.settle()
    assert (project.champion, project.waiting) == (1, TOO_LITTLE)
    assert [o.split()[0] for o in loop.control().outside] == ['"dog"', '"owl"']
    assert loop.control().labels == 10


def test_a_change_that_the_server_noticed_is_seen_through(
    loop: Loop, small_label_studio: SmallLabelStudio, small_client: LabelStudio
) -> None:
    # Label Studio told the server of the config, and the trainer looks only at what changed since.
    renamed = config("cat", "hound", "owl")
    small_label_studio.project["label_config"] = renamed
    register_project(loop.tools.store, 1, title="Test", label_config=renamed)
    assert loop.settle().champion == 2
    assert (loop.control().labels, len(loop.control().outside)) == (20, 1)

    # A look that is cut short between the config and the labels is made again.
    with loop.tools.store.write() as session:
        assert set_config(session.get_one(Project, 1), "Test", config(*CLASSES))
    with loop.tools.store.read() as session:
        project = session.get_one(Project, 1)
        [control] = controls_of(project)
        images = labelled_images(session, project, control, "mean-colour", 0.0)
    assert len(images.targets) == 20
    small_label_studio.project["label_config"] = config(*CLASSES)
    assert loop.settle().champion == 3
    assert loop.control().labels == 30


def test_labels_that_do_not_fit_yet_are_passed_over(loop: Loop) -> None:
    with loop.tools.store.write() as session:
        assert set_config(session.get_one(Project, 1), "Test", config("cat", "hound", "owl"))
    with loop.tools.store.read() as session:
        project = session.get_one(Project, 1)
        [control] = controls_of(project)
        images = labelled_images(session, project, control, "mean-colour", 0.0)
    assert np.unique(images.targets).tolist() == [0, 2]
    assert len(images.embeddings) == len(images.held_out) == len(images.task_ids) == 20


def test_a_config_that_changes_during_a_look_is_looked_at_again(
    loop: Loop, small_client: LabelStudio, small_label_studio: SmallLabelStudio
) -> None:
    store = loop.tools.store

    class ChangesMeanwhile(LabelStudio):
        def tasks(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
            register_project(store, 1, title="Test", label_config=config("cat", "owl"))
            return super().tasks(*args, **kwargs)  # type: ignore[arg-type]

    with ChangesMeanwhile(small_label_studio.url, "0" * 40) as client:
        look_at_everything(store, client, 1)
    with store.read() as session:
        assert session.get_one(Project, 1).compared_at is None
    look_at_everything(store, small_client, 1)
    with store.read() as session:
        assert session.get_one(Project, 1).compared_at is not None


def test_the_page_and_the_api_say_what_no_longer_fits(
    loop: Loop, small_label_studio: SmallLabelStudio
) -> None:
    small_label_studio.project["label_config"] = config("cat", "hound", "owl")
    loop.settle()
    with client_of(loop.tools.settings) as client:
        page = html.unescape(re.sub(r"<[^>]*>", " ", client.get("/").text))
        [control] = client.get("/api/projects/1").get_json()["controls"]
    read = " ".join(page.split())
    assert f'"dog" not among the choices of the labelling config (10). {OUTSIDE_ADVICE}' in read
    assert "They are task 1 , task 4 , task 7" in read
    assert control["outside_tasks"][:3] == [1, 4, 7]
    assert control["advice"] == OUTSIDE_ADVICE
